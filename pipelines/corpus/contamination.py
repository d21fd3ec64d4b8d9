"""Finding evaluation items in documents: the n-grams of all items in sorted arrays, looked up a document at a time.

In memory are the n-grams, of some 12 bytes each, and what one document needs; the documents stream.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.progress import meter, track
from pipelines.artifacts.stage import Metrics
from pipelines.corpus.decontaminate import DecontaminateConfig
from pipelines.corpus.documents import PartWriter, count_documents, read_documents
from pipelines.corpus.items import Item, read_items
from pipelines.corpus.ngrams import Hashes, ngram_hashes, word_hashes, words
from pipelines.corpus.selection import write_kept

HITS = pa.schema([(name, pa.string()) for name in ("id", "url", "benchmark", "item", "ngram")])


@dataclass(frozen=True)
class Hit:
    """A piece of an item in a document."""

    item: int
    ngram: str


@dataclass
class Index:
    """The n-grams of all items, by their number of words."""

    names: list[tuple[str, str]] = field(default_factory=list)
    """Each item's benchmark and name."""
    unsearched: Counter[str] = field(default_factory=Counter)
    """By benchmark, the items too short or too common to be looked for."""
    hashes: dict[int, Hashes] = field(default_factory=dict)
    items: dict[int, NDArray[np.int32]] = field(default_factory=dict)

    def hits(self, text: str) -> Iterator[Hit]:
        """Yield every item that `text` holds a piece of, once, with the first such piece."""
        found = words(text)
        hashed = word_hashes(found)
        seen: set[int] = set()
        for n, known in self.hashes.items():
            grams = ngram_hashes(hashed, n)
            places = np.searchsorted(known, grams)
            places[places == len(known)] = 0
            for start in np.flatnonzero(known[places] == grams).tolist():
                end = int(np.searchsorted(known, grams[start], side="right"))
                for item in self.items[n][places[start] : end].tolist():
                    if item not in seen:
                        seen.add(item)
                        yield Hit(item, " ".join(found[start : start + n]))


def build(config: DecontaminateConfig, documents: Path, questions: Path | None, out: Path) -> Metrics:
    """Write `documents/` and `dropped/hits.parquet` below `out` and return the counts, also by benchmark."""
    index = index_items(track(read_items(questions, config.mirror), "reading items", unit="items"), config)
    keep = np.ones(count_documents(documents), np.bool_)
    by_benchmark: Counter[str] = Counter()
    items_hit: set[int] = set()
    with (
        PartWriter(out / "dropped" / "hits.parquet", out, HITS) as writer,
        meter("looking for items", total=len(keep), unit="documents") as counter,
    ):
        for place, document in enumerate(read_documents(documents, columns=["id", "text", "url"])):
            hits = list(index.hits(document.text))
            for hit in hits:
                benchmark, item = index.names[hit.item]
                where = {"id": document.id, "url": document.metadata.get("url")}
                writer.write_row({**where, "benchmark": benchmark, "item": item, "ngram": hit.ngram})
            by_benchmark.update({index.names[hit.item][0] for hit in hits})
            items_hit.update(hit.item for hit in hits)
            keep[place] = not hits
            counter.advance()
    dropped = len(keep) - int(keep.sum())
    if not keep.any():
        raise EmptyOutput("decontaminate", {"in": len(keep), "contaminated": dropped})
    write_kept(documents, out, keep)
    counts = {"in": len(keep), "kept": len(keep) - dropped, "dropped.contaminated": dropped, "items": len(index.names)}
    hit_items = Counter(index.names[item][0] for item in items_hit)
    for name, total in sorted(Counter(benchmark for benchmark, _ in index.names).items()):
        counts |= {
            f"items.{name}": total,
            f"items_unsearched.{name}": index.unsearched[name],
            f"items_hit.{name}": hit_items[name],
            f"documents_hit.{name}": by_benchmark[name],
        }
    return {name: float(count) for name, count in counts.items()}


def index_items(items: Iterable[Item], config: DecontaminateConfig) -> Index:
    """Return the index of the items' n-grams, without those that are a benchmark's template."""
    index = Index()
    found: dict[int, list[Hashes]] = defaultdict(list)
    holders: dict[int, list[NDArray[np.int32]]] = defaultdict(list)
    for number, item in enumerate(items):
        index.names.append((item.benchmark, item.name))
        for n, hashed in item_pieces(item, config).items():
            found[n].append(hashed)
            holders[n].append(np.full(len(hashed), number, np.int32))
    benchmarks = np.unique([benchmark for benchmark, _ in index.names], return_inverse=True)[1]
    searched = np.zeros(len(index.names), np.bool_)
    for n in sorted(found, reverse=True):
        hashed, held = np.concatenate(found[n]), np.concatenate(holders[n])
        order = np.lexsort((held, benchmarks[held], hashed))
        hashed, held = hashed[order], held[order]
        telling = _uses(hashed, benchmarks[held]) <= config.common_items
        if telling.any():
            index.hashes[n], index.items[n] = hashed[telling], held[telling]
            searched[held[telling]] = True
    index.unsearched.update(index.names[item][0] for item in np.flatnonzero(~searched))
    return index


def _uses(hashed: Hashes, benchmarks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, for each of the sorted n-grams, in how many items of its benchmark it is."""
    first = np.ones(len(hashed), np.bool_)
    first[1:] = (hashed[1:] != hashed[:-1]) | (benchmarks[1:] != benchmarks[:-1])
    starts = np.flatnonzero(first)
    return np.repeat(np.diff(starts, append=len(hashed)), np.diff(starts, append=len(hashed)))


def item_pieces(item: Item, config: DecontaminateConfig) -> dict[int, Hashes]:
    """Return the n-grams that convict, by their number of words."""
    own, joined, wrong = (_pieces(texts, config) for texts in (item.own, item.joined, item.wrong))
    none = np.empty(0, np.uint64)
    return {
        n: np.union1d(own.get(n, none), np.setdiff1d(joined.get(n, none), wrong.get(n, none))) for n in own | joined
    }


def _pieces(texts: Iterable[str], config: DecontaminateConfig) -> dict[int, Hashes]:
    """Return the n-grams of the texts; a shorter text of `min_words` or more is one whole."""
    found: dict[int, list[Hashes]] = defaultdict(list)
    for text in texts:
        hashed = word_hashes(words(text))
        n = min(len(hashed), config.ngram_words)
        if n >= min(config.min_words, config.ngram_words):
            found[n].append(ngram_hashes(hashed, n))
    return {n: np.unique(np.concatenate(pieces)) for n, pieces in found.items()}
