"""Finding evaluation items in documents, part by part: unedited pieces first, then edited copies of what was not found.

In memory of each worker are the two indexes, of some 12 bytes an n-gram, and a row group; the documents stream.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.progress import track
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file, progress_dir
from pipelines.corpus.decontaminate import DecontaminateConfig
from pipelines.corpus.documents import ROWS_PER_GROUP, PartWriter, parts, read_rows
from pipelines.corpus.item_index import ExactIndex, Place, index_exact
from pipelines.corpus.item_texts import hashed_texts
from pipelines.corpus.items import Item, read_items
from pipelines.corpus.near_items import NearIndex, index_near
from pipelines.corpus.ngrams import word_hashes, words
from pipelines.corpus.shards import run_shards

HITS = pa.schema(
    [(name, pa.string()) for name in ("id", "url", "benchmark", "item", "kind")]
    + [("share", pa.float64()), ("passage", pa.string()), ("context", pa.string())]
)
"""A piece of an item in a document: `kind` is exact or near, `share` how much of the item's text the passage holds."""
PASSAGE_CHARS = 240
CONTEXT_WORDS = 12


@dataclass(frozen=True)
class Search:
    """Searches one part; it is sent to worker processes with its indexes."""

    documents: tuple[Path, ...]
    out: Path
    names: tuple[tuple[str, str], ...]
    """Each item's benchmark and name."""
    exact: ExactIndex
    near: NearIndex

    def __call__(self, index: int) -> dict[str, int]:
        """Write what is kept of part `index`, and its hits; return the counts, also by benchmark."""
        source = self.documents[index]
        counts: Counter[str] = Counter({"in": 0, "kept": 0, "dropped.contaminated": 0})
        with (
            PartWriter(_hits_part(self.out, index), self.out, HITS) as hits,
            atomic_file(self.out / "documents" / source.name, self.out) as fresh,
            pq.ParquetFile(source) as file,
            pq.ParquetWriter(fresh, file.schema_arrow, compression="zstd") as writer,
        ):
            for batch in file.iter_batches(batch_size=ROWS_PER_GROUP):
                clean = [self._clean(row, hits, counts) for row in _texts(batch)]
                if any(clean):
                    writer.write_batch(batch.filter(pa.array(clean)))
                counts.update({"in": len(clean), "kept": sum(clean)})
                counts["dropped.contaminated"] += len(clean) - sum(clean)
        return dict(counts)

    def _clean(self, row: dict[str, Any], hits: PartWriter, counts: Counter[str]) -> bool:
        found = words(row["text"] or "")
        hashed = word_hashes(found)
        exact = list(self.exact.places(hashed))
        known = {place.item for place in exact}
        near = sorted((place for place in self.near.places(hashed) if place.item not in known), key=lambda p: p.item)
        for kind, places in (("exact", exact), ("near", near)):
            for place in places:
                hits.write_row({"id": row["id"], "url": row.get("url"), "kind": kind, **self._shown(place, found)})
        held = {kind: {self.names[place.item][0] for place in places} for kind, places in (("e", exact), ("n", near))}
        counts.update(f"documents_hit.{name}" for name in held["e"] | held["n"])
        counts.update(f"documents_near.{name}" for name in held["n"] - held["e"])
        return not (exact or near)

    def _shown(self, place: Place, found: list[str]) -> dict[str, Any]:
        benchmark, item = self.names[place.item]
        before = " ".join(found[max(place.start - CONTEXT_WORDS, 0) : place.start])
        passage = " ".join(found[place.start : place.end])[:PASSAGE_CHARS]
        after = " ".join(found[place.end : place.end + CONTEXT_WORDS])
        context = f"{before[-PASSAGE_CHARS:]} [{passage}] {after[:PASSAGE_CHARS]}".strip()
        return {
            "benchmark": benchmark,
            "item": item,
            "share": place.share,
            "passage": passage,
            "context": context,
        }


def build(config: DecontaminateConfig, documents: Path, sets: dict[str, Path | None], out: Path) -> Metrics:
    """Write `documents/` and `dropped/hits.parquet` below `out` and return the counts, also by benchmark."""
    items = list(track(read_items(sets, config.mirror), "reading items", unit="items"))
    search = search_for(items, config, tuple(parts(documents)), out)
    count = len(search.documents)
    counts = Counter(run_shards(search, count, out=out, workers=config.workers, what="decontaminate", execution=config))
    if not counts["kept"]:
        raise EmptyOutput("decontaminate", {"in": counts["in"], "contaminated": counts["dropped.contaminated"]})
    hit_items = _merge_hits(out, count)
    searched = search.exact.searched(len(items)) | search.near.searched(len(items))
    found = {name: counts[name] for name in ("in", "kept", "dropped.contaminated")} | {"items": len(items)}
    totals = Counter(item.benchmark for item in items)
    left_out = Counter(items[number].benchmark for number in np.flatnonzero(~searched))
    for name, total in sorted(totals.items()):
        found |= {
            f"items.{name}": total,
            f"items_unsearched.{name}": left_out[name],
            f"items_hit.{name}": hit_items[name],
            f"documents_hit.{name}": counts[f"documents_hit.{name}"],
            f"documents_near.{name}": counts[f"documents_near.{name}"],
        }
    return {name: float(value) for name, value in found.items()}


def search_for(items: list[Item], config: DecontaminateConfig, documents: Iterable[Path], out: Path) -> Search:
    """Return the search for these items."""
    benchmarks: NDArray[np.int64] = np.unique([item.benchmark for item in items], return_inverse=True)[1]
    texts = hashed_texts(items)
    return Search(
        documents=tuple(documents),
        out=out,
        names=tuple((item.benchmark, item.name) for item in items),
        exact=index_exact(texts, benchmarks, config),
        near=index_near(texts if config.near_share < 1 else hashed_texts([]), benchmarks, config),
    )


def _texts(batch: pa.RecordBatch) -> list[dict[str, Any]]:
    held = [name for name in ("id", "text", "url") if name in batch.schema.names]
    return list(batch.select(held).to_pylist())


def _hits_part(out: Path, index: int) -> Path:
    return progress_dir(out) / "hits" / f"hits-{index:05d}.parquet"


def _merge_hits(out: Path, count: int) -> Counter[str]:
    """Write the hits of all parts as one file, in order, and return how many items of each benchmark are among them."""
    seen: set[tuple[str, str]] = set()
    with PartWriter(out / "dropped" / "hits.parquet", out, HITS) as writer:
        for index in range(count):
            for row in read_rows(_hits_part(out, index)):
                seen.add((row["benchmark"], row["item"]))
                writer.write_row(row)
    return Counter(benchmark for benchmark, _ in seen)
