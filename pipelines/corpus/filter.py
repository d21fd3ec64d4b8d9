"""The stage that drops documents by thresholds over their scores and replaces personal data in the rest.

The defaults are the published ones for web text. A minimum of 0 and a share of 1 switch a rule off.
"""

from pathlib import Path

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


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
    """C4's rules for whole documents (Raffel et al. 2020); its cutting of single lines is not done."""

    model_config = ConfigDict(title="C4")

    min_sentences: int = Field(5, ge=0, description="Fewest sentences in lines that end like one.")
    drop_lorem_ipsum: bool = Field(True, description="Drop documents with the printers' filler text.")
    drop_curly_bracket: bool = Field(True, description="Drop documents with a curly bracket in a sentence.")


class ToxicityRules(StageConfig):
    """How toxic a document may be; what the figures can and cannot tell is in `toxicity_card.json`."""

    model_config = ConfigDict(title="Toxicity")

    max_hit_ratio: float = Field(0.01, ge=0, le=1, description="Most listed words per word.")
    max_score: float = Field(0.9, ge=0, le=1, description="Greatest probability that its worst window is toxic.")


class FilterConfig(StageConfig):
    """The thresholds, in the order in which they are tried."""

    model_config = ConfigDict(title="Filter documents")

    language: LanguageRules = Field(LanguageRules(), description="Which languages are kept.")
    gopher: GopherRules = Field(GopherRules(), description="Gopher's quality rules.")
    repetition: RepetitionRules = Field(RepetitionRules(), description="Gopher's repetition rules.")
    c4: C4Rules = Field(C4Rules(), description="C4's rules.")
    toxicity: ToxicityRules = Field(ToxicityRules(), description="How toxic a document may be.")
    replace_pii: bool = Field(True, description="Replace personal data by placeholders such as <EMAIL>.")


def filter(config: FilterConfig, *, documents: Path, out: Path) -> Metrics:
    """Write the documents that pass every rule, and the others' ids with the first rule that each fails.

    Returns `in`, `kept`, `dropped.REASON` and `pii.KIND`, the pieces of personal data replaced in what is kept.
    Raises EmptyOutput when nothing is.
    """
    from pipelines.corpus.filtering import filter_documents

    return filter_documents(config, documents, out)


FILTER = Stage("filter", version=1, run=filter, libraries=("datatrove", "pyarrow"))
