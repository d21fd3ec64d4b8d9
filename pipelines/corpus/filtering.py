"""Filters annotated documents part by part: the rules in their fixed order and the sharded pass that applies them."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from datatrove.data import Document

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.annotation import ANNOTATED
from pipelines.corpus.block_list import BlockList
from pipelines.corpus.documents import PartWriter, part_name, parts, read_documents, read_rows
from pipelines.corpus.filter import FilterConfig
from pipelines.corpus.personal.pii import FINDERS, Span, replace_pii
from pipelines.corpus.samples import Samples
from pipelines.corpus.scoring.repetition import FIELDS as REPETITION_FIELDS
from pipelines.corpus.shards import run_shards

DROPPED = pa.schema([("id", pa.string()), ("url", pa.string()), ("reason", pa.string())])

Row = dict[str, Any]
Rule = tuple[str, Callable[[Row], bool]]
"""A reason and whether a document's scores give it."""


def rules(config: FilterConfig, blocked: BlockList | None = None) -> list[Rule]:
    """Return the rules in the order in which they are tried: address, language, Gopher, C4, FineWeb, toxicity.

    `blocked` is the block list that the config names, for those who have read it.
    """
    blocked = blocked or BlockList(config.urls)
    language, gopher, c4, fineweb, toxicity = (
        config.language,
        config.gopher,
        config.c4,
        config.fineweb,
        config.toxicity,
    )
    wanted = frozenset(language.languages)
    return [
        ("url_domain", lambda row: blocked.has_domain(row["url"])),
        ("url_pattern", lambda row: blocked.has_pattern(row["url"])),
        ("url_word", lambda row: blocked.has_word(row["url"])),
        ("empty", lambda row: not row["words"]),
        ("language", lambda row: bool(wanted) and row["language"] not in wanted),
        ("language_score", lambda row: bool(wanted) and row["language_score"] < language.min_score),
        ("gopher_too_few_words", lambda row: row["words"] < gopher.min_words),
        ("gopher_too_many_words", lambda row: row["words"] > gopher.max_words),
        ("gopher_short_words", lambda row: row["mean_word_length"] < gopher.min_mean_word_length),
        ("gopher_long_words", lambda row: row["mean_word_length"] > gopher.max_mean_word_length),
        ("gopher_hashes", lambda row: row["hash_word_ratio"] > gopher.max_symbol_word_ratio),
        ("gopher_ellipses", lambda row: row["ellipsis_word_ratio"] > gopher.max_symbol_word_ratio),
        ("gopher_bullet_lines", lambda row: row["bullet_line_ratio"] > gopher.max_bullet_line_ratio),
        ("gopher_ellipsis_lines", lambda row: row["ellipsis_line_ratio"] > gopher.max_ellipsis_line_ratio),
        ("gopher_words_without_letters", lambda row: row["alpha_word_ratio"] < gopher.min_alpha_word_ratio),
        ("gopher_few_stop_words", lambda row: row["stop_words"] < gopher.min_stop_words),
        *(_at_most(name, getattr(config.repetition, f"max_{name}")) for name, _ in REPETITION_FIELDS),
        ("c4_lorem_ipsum", lambda row: c4.drop_lorem_ipsum and row["c4_lorem_ipsum"]),
        ("c4_curly_bracket", lambda row: c4.drop_curly_bracket and row["c4_curly_bracket"]),
        ("c4_too_few_sentences", lambda row: row["c4_sentences"] < c4.min_sentences),
        ("c4_few_lines", lambda row: row["c4_lines"] < c4.min_line_ratio * row["lines"]),
        ("c4_javascript", lambda row: row["c4_javascript_lines"] > c4.max_javascript_line_ratio * row["lines"]),
        ("c4_policy", lambda row: row["c4_policy_lines"] > c4.max_policy_line_ratio * row["lines"]),
        ("c4_short_paragraphs", lambda row: row["c4_paragraph_length"] < c4.min_paragraph_length),
        ("fineweb_punctuation", lambda row: row["punctuated_line_ratio"] < fineweb.min_punctuated_line_ratio),
        ("fineweb_short_lines", lambda row: row["short_line_ratio"] > fineweb.max_short_line_ratio),
        ("fineweb_repeated_lines", lambda row: row["repeated_line_char_ratio"] > fineweb.max_repeated_line_char_ratio),
        ("fineweb_line_feeds", lambda row: row["line_feed_word_ratio"] > fineweb.max_line_feed_word_ratio),
        ("toxicity_words", lambda row: row["toxicity_hits"] > toxicity.max_hit_ratio * max(row["words"], 1)),
        ("toxicity_score", lambda row: row["toxicity_score"] > toxicity.max_score),
    ]


def _at_most(column: str, threshold: float) -> Rule:
    return f"gopher_{column.removesuffix('_ratio')}", lambda row: row[column] > threshold


@dataclass(frozen=True)
class Sieve:
    """Filters one part; it is sent to worker processes with its block list."""

    documents: tuple[Path, ...]
    out: Path
    config: FilterConfig
    blocked: BlockList

    def __call__(self, index: int) -> dict[str, int]:
        """Write what is kept of part `index`, the list of what is not and samples of it; return the counts."""
        ordered = rules(self.config, self.blocked)
        counts = Counter({"in": 0, "kept": 0})
        samples = Samples(self.config.samples, self.config.sample_characters)
        with (
            PartWriter(self.out / "documents" / part_name(index), self.out, ANNOTATED) as writer,
            PartWriter(_left_by(self.out, "dropped", index), self.out, DROPPED) as dropped,
        ):
            for document in read_documents(self.documents[index]):
                counts["in"] += 1
                reason = first_failing(ordered, document.metadata)
                if reason:
                    counts[f"dropped.{reason}"] += 1
                    samples.offer(reason, document)
                    dropped.write_row({"id": document.id, "url": document.metadata["url"], "reason": reason})
                    continue
                if self.config.replace_pii:
                    counts.update(f"pii.{kind}" for kind in mask(document))
                counts["kept"] += 1
                writer.write(document)
        samples.write(_left_by(self.out, "samples", index), self.out, [name for name, _ in ordered])
        return dict(counts)


def filter_documents(config: FilterConfig, documents: Path, out: Path) -> Metrics:
    """Write the kept documents, part by part, and the list of the dropped ones below `out`; return the counts."""
    sieve = Sieve(tuple(parts(documents)), out, config, BlockList(config.urls))
    reasons = [name for name, _ in rules(config, sieve.blocked)]
    count = len(sieve.documents)
    counts = Counter(run_shards(sieve, count, out=out, workers=config.workers, what="filter", execution=config))
    _merge(config, reasons, count, out)
    dropped = {f"dropped.{name}": counts[f"dropped.{name}"] for name in reasons if counts[f"dropped.{name}"]}
    funnel = {"in": counts["in"], **dropped}
    if not counts["kept"]:
        raise EmptyOutput("filter", {name.removeprefix("dropped."): number for name, number in funnel.items()})
    found = {f"pii.{kind}": counts[f"pii.{kind}"] for kind in FINDERS if config.replace_pii}
    return {name: float(number) for name, number in {**funnel, "kept": counts["kept"], **found}.items()}


def _left_by(out: Path, kind: str, index: int) -> Path:
    """Return where a part leaves its list or its samples until all are merged."""
    return progress_dir(out) / kind / f"{kind}-{index:05d}.parquet"


def _merge(config: FilterConfig, reasons: list[str], count: int, out: Path) -> None:
    """Write the lists of all parts as one file, in order, and the samples that all parts together would have given."""
    samples = Samples(config.samples, config.sample_characters)
    with PartWriter(out / "dropped" / "dropped.parquet", out, DROPPED) as dropped:
        for index in range(count):
            samples.offer_written(_left_by(out, "samples", index))
            for row in read_rows(_left_by(out, "dropped", index)):
                dropped.write_row(row)
    samples.write(out / "dropped" / "samples.parquet", out, reasons)


def first_failing(ordered: list[Rule], row: Row) -> str | None:
    """Return the reason of the first rule that the scores fail, or None."""
    return next((reason for reason, fails in ordered if fails(row)), None)


def mask(document: Document) -> list[str]:
    """Replace the personal data in a document's text and return the kinds; its spans then mark the placeholders."""
    spans = [Span(**span) for span in document.metadata["pii"]]
    document.text, placed = replace_pii(document.text, spans)
    document.metadata["pii"] = [span._asdict() for span in placed]
    return [span.kind for span in spans]
