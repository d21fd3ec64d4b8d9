"""The stage that drops documents by thresholds over their scores and replaces personal data in the rest.

The defaults are the published ones for web text. A minimum of 0 and a share of 1 switch a rule off.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from pydantic import ConfigDict, Field

from pipelines.artifacts.pins import FileRoot, Root
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.corpus.execution import ShardedConfig


class UrlRules(StageConfig):
    """Addresses whose documents are dropped."""

    model_config = ConfigDict(title="URL block list")
    pinned: ClassVar[frozenset[str]] = frozenset({"path"})

    path: Path | None = Field(
        None,
        description="List of domains and patterns, one a line (also in the form of a hosts file); # starts a comment. "
        "About 150 bytes of memory a line.",
    )
    domains: tuple[str, ...] = Field((), description="Domains to drop, with all their subdomains.")
    patterns: tuple[str, ...] = Field(
        (), description="Addresses to drop, without their scheme; * stands for any characters."
    )
    words: tuple[str, ...] = Field(
        (), description="Words to drop where they stand in an address between marks, in either case."
    )

    def roots(self) -> Mapping[str, Root]:
        """Return the list as an input pinned by content; a list with a bad line is refused before a run begins."""
        from pipelines.corpus.block_list import check_list

        return {"path": FileRoot({"list": self.path}, "filter.urls.path", check_list)} if self.path else {}


class LanguageRules(StageConfig):
    """Which languages are kept (threshold: FineWeb, arXiv:2406.17557)."""

    model_config = ConfigDict(title="Language")

    languages: tuple[str, ...] = Field(("en",), description="ISO 639 codes to keep; none named keeps all.")
    min_score: float = Field(0.65, ge=0, le=1, description="Least probability of the language.")


class GopherRules(StageConfig):
    """Gopher's quality rules (Rae et al. 2021, appendix A1.1)."""

    model_config = ConfigDict(title="Gopher quality")

    min_words: int = Field(50, ge=0, description="Fewest words that are more than punctuation.")
    max_words: int = Field(100_000, ge=1, description="Most words that are more than punctuation.")
    min_mean_word_length: float = Field(3, ge=0, description="Least mean length of a word, in characters.")
    max_mean_word_length: float = Field(10, ge=0, description="Greatest mean length of a word, in characters.")
    max_symbol_word_ratio: float = Field(0.1, ge=0, description="Most hashes, or ellipses, per word.")
    max_bullet_line_ratio: float = Field(
        0.9, ge=0, le=1, description="Greatest share of lines that start with a bullet."
    )
    max_ellipsis_line_ratio: float = Field(
        0.3, ge=0, le=1, description="Greatest share of lines that end in an ellipsis."
    )
    min_alpha_word_ratio: float = Field(0.8, ge=0, le=1, description="Least share of words that have a letter.")
    min_stop_words: int = Field(2, ge=0, le=8, description="Fewest different stop words out of Gopher's eight.")


class RepetitionRules(StageConfig):
    """Gopher's repetition rules (Rae et al. 2021, table A1)."""

    model_config = ConfigDict(title="Gopher repetition")

    max_duplicate_paragraph_ratio: float = Field(0.3, ge=0, le=1, description="Share of paragraphs met before.")
    max_duplicate_paragraph_char_ratio: float = Field(0.2, ge=0, le=1, description="Share of characters in them.")
    max_duplicate_line_ratio: float = Field(0.3, ge=0, le=1, description="Share of lines met before.")
    max_duplicate_line_char_ratio: float = Field(0.2, ge=0, le=1, description="Share of characters in them.")
    max_top_2_gram_char_ratio: float = Field(
        0.20, ge=0, description="Characters in the commonest 2-gram per character."
    )
    max_top_3_gram_char_ratio: float = Field(
        0.18, ge=0, description="Characters in the commonest 3-gram per character."
    )
    max_top_4_gram_char_ratio: float = Field(
        0.16, ge=0, description="Characters in the commonest 4-gram per character."
    )
    max_duplicate_5_gram_char_ratio: float = Field(0.15, ge=0, le=1, description="Share in 5-grams met before.")
    max_duplicate_6_gram_char_ratio: float = Field(0.14, ge=0, le=1, description="Share in 6-grams met before.")
    max_duplicate_7_gram_char_ratio: float = Field(0.13, ge=0, le=1, description="Share in 7-grams met before.")
    max_duplicate_8_gram_char_ratio: float = Field(0.12, ge=0, le=1, description="Share in 8-grams met before.")
    max_duplicate_9_gram_char_ratio: float = Field(0.11, ge=0, le=1, description="Share in 9-grams met before.")
    max_duplicate_10_gram_char_ratio: float = Field(0.10, ge=0, le=1, description="Share in 10-grams met before.")


class C4Rules(StageConfig):
    """C4's rules (Raffel et al. 2020). Its cutting of single lines is not done: a document may be dropped for them."""

    model_config = ConfigDict(title="C4")

    min_sentences: int = Field(5, ge=0, description="Fewest sentences in lines that end like one.")
    drop_lorem_ipsum: bool = Field(True, description="Drop documents with the printers' filler text.")
    drop_curly_bracket: bool = Field(True, description="Drop documents with a curly bracket in a sentence.")
    min_line_ratio: float = Field(0, ge=0, le=1, description="Least share of lines that C4 retains.")
    max_javascript_line_ratio: float = Field(1, ge=0, le=1, description="Greatest share of lines on JavaScript.")
    max_policy_line_ratio: float = Field(1, ge=0, le=1, description="Greatest share of lines on cookies or terms.")
    min_paragraph_length: int = Field(
        0, ge=0, description="Fewest characters in the third longest line; mC4 asks for 200 (arXiv:2010.11934)."
    )


class FineWebRules(StageConfig):
    """FineWeb's own rules (Penedo et al. 2024, arXiv:2406.17557); the thresholds are those of its published code."""

    model_config = ConfigDict(title="FineWeb")

    min_punctuated_line_ratio: float = Field(
        0.12, ge=0, le=1, description="Least share of lines that end in a mark of punctuation."
    )
    max_short_line_ratio: float = Field(
        0.67, ge=0, le=1, description="Greatest share of lines of at most 30 characters."
    )
    max_repeated_line_char_ratio: float = Field(
        0.01, ge=0, le=1, description="Greatest share of characters in lines met before."
    )
    max_line_feed_word_ratio: float = Field(0.3, ge=0, description="Most line feeds per word or mark.")


class ToxicityRules(StageConfig):
    """How toxic a document may be; what the figures can and cannot tell is in `toxicity_card.json`."""

    model_config = ConfigDict(title="Toxicity")

    max_hit_ratio: float = Field(0.01, ge=0, le=1, description="Most listed words per word.")
    max_score: float = Field(0.9, ge=0, le=1, description="Greatest probability that its worst window is toxic.")


class FilterConfig(ShardedConfig):
    """The thresholds, in the order in which they are tried, and how many processes try them."""

    model_config = ConfigDict(title="Filter documents")

    urls: UrlRules = Field(UrlRules(), description="Addresses whose documents are dropped.")
    language: LanguageRules = Field(LanguageRules(), description="Which languages are kept.")
    gopher: GopherRules = Field(GopherRules(), description="Gopher's quality rules.")
    repetition: RepetitionRules = Field(RepetitionRules(), description="Gopher's repetition rules.")
    c4: C4Rules = Field(C4Rules(), description="C4's rules.")
    fineweb: FineWebRules = Field(FineWebRules(), description="FineWeb's rules.")
    toxicity: ToxicityRules = Field(ToxicityRules(), description="How toxic a document may be.")
    replace_pii: bool = Field(True, description="Replace personal data by placeholders such as <EMAIL>.")
    samples: int = Field(
        20, ge=0, le=100, description="Dropped documents to show for each reason; they are in memory, so few."
    )
    sample_characters: int = Field(2000, ge=0, le=10_000, description="Characters that are shown of each.")


def filter(config: FilterConfig, *, documents: Path, out: Path) -> Metrics:
    """Write the documents that pass every rule, the others' ids with the first rule that each fails, and samples.

    Returns `in`, `kept`, `dropped.REASON` and `pii.KIND`, the pieces of personal data replaced in what is kept.
    Raises EmptyOutput when nothing is.
    """
    config.prepare()
    from pipelines.corpus.filtering import filter_documents

    return filter_documents(config, documents, out)


FILTER = Stage("filter", version=2, run=filter, libraries=("datatrove", "pyarrow"), resumable=True)
