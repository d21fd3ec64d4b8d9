"""Removing duplicates in three passes: read and sign, link, write.

In memory are, for each distinct text, its signature (512 bytes with 128 permutations) and hash, and for each document
its id and a few numbers: under 1 kB a document in all. Shingles lie in a file of 8 bytes a word until the stage ends.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import xxhash
from numpy.typing import NDArray

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.progress import meter, track
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.documents import PartWriter, count_documents, read_documents
from pipelines.corpus.linking import Linker, ShingleFile
from pipelines.corpus.minhash import Signatures, Signer, buckets, choose_bands
from pipelines.corpus.ngrams import normalised, shingles
from pipelines.corpus.selection import write_kept

CLUSTERS = pa.schema(
    [("id", pa.string()), ("kept_id", pa.string()), ("kind", pa.string()), ("similarity", pa.float64())]
)


@dataclass(frozen=True)
class Corpus:
    """What one pass over the documents leaves: distinct texts by number, with their signatures and shingles."""

    ids: list[str]
    text_of: NDArray[np.int64]
    """Each document's distinct text."""
    ranks: NDArray[np.int64]
    """Each document's place when the longest come first, and of equally long ones the smallest id."""
    signatures: Signatures
    shingles: ShingleFile


def build(config: DedupConfig, documents: Path, out: Path) -> Metrics:
    """Write `documents/` and `clusters/` below `out` and return the counts."""
    bands, rows = choose_bands(config.threshold, config.permutations, config.candidate_recall)
    corpus = _read(config, documents, out)
    count = len(corpus.ids)
    if not count:
        raise EmptyOutput("dedup", {"in": 0})
    best = _first_by_rank(corpus.text_of, corpus.ranks)
    linker = Linker(corpus.signatures, corpus.shingles, rows, config.threshold)
    best_first = np.argsort(corpus.ranks[best])
    best_first = best_first[corpus.shingles.sizes[best_first] > 0]
    found = buckets(corpus.signatures, best_first, bands, rows)
    for band, bucket in track(found, "comparing candidates", unit="buckets"):
        linker.link(band, bucket)
    cluster_of = np.array([linker.find(text) for text in range(len(best))])[corpus.text_of]
    kept = _first_by_rank(cluster_of, corpus.ranks)[cluster_of]
    counts = _write_clusters(corpus, best, kept, out)
    write_kept(documents, out, kept == np.arange(count))
    return {
        "in": float(count),
        "kept": float(count - sum(counts.values())),
        "dropped.exact": float(counts["exact"]),
        "dropped.near": float(counts["near"]),
        "clusters": float(len(np.unique(kept[kept != np.arange(count)]))),
        "candidates": float(linker.candidates),
        "verified": float(linker.verified),
        "bands": float(bands),
        "rows": float(rows),
    }


def _read(config: DedupConfig, documents: Path, out: Path) -> Corpus:
    count = count_documents(documents)
    ids: list[str] = []
    lengths, text_of = np.empty(count, np.int64), np.empty(count, np.int64)
    texts: dict[bytes, int] = {}
    sizes: list[int] = []
    signatures = bytearray()
    signer = Signer(config.permutations, config.seed)
    spill = progress_dir(out) / "shingles.bin"
    with spill.open("wb") as file, meter("signing", total=count, unit="documents") as counter:
        for place, document in enumerate(read_documents(documents, columns=["id", "text"])):
            ids.append(document.id)
            lengths[place] = len(document.text)
            digest = xxhash.xxh3_128_digest(normalised(document.text).encode())
            text_of[place] = texts.setdefault(digest, len(texts))
            if text_of[place] == len(sizes):
                found = shingles(document.text, config.shingle_words)
                file.write(found.tobytes())
                sizes.append(len(found))
                signatures += signer.sign(found).tobytes()
            counter.advance()
    ranks = np.empty(count, np.int64)
    ranks[sorted(range(count), key=lambda place: (-lengths[place], ids[place]))] = np.arange(count)
    table = np.frombuffer(signatures, np.uint32).reshape(len(sizes), config.permutations)
    return Corpus(ids, text_of, ranks, table, ShingleFile(spill, np.array(sizes, np.int64)))


def _first_by_rank(groups: NDArray[np.int64], ranks: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return, by group number, the member of the best rank; numbers that no member has are left at 0."""
    first = np.zeros(int(groups.max()) + 1, np.int64)
    worst_first = np.argsort(-ranks)
    first[groups[worst_first]] = worst_first  # of repeated places numpy keeps the last value
    return first


def _write_clusters(corpus: Corpus, best: NDArray[np.int64], kept: NDArray[np.int64], out: Path) -> dict[str, int]:
    counts = {"exact": 0, "near": 0}
    with PartWriter(out / "clusters" / "clusters.parquet", out, CLUSTERS) as writer:
        for place in _dropped(corpus, kept):
            # Exact: equal to a better document, which need not be the one that the whole cluster keeps.
            kind = "near" if best[corpus.text_of[place]] == place else "exact"
            counts[kind] += 1
            stands = int(kept[place])
            similarity = _similarity(corpus, int(corpus.text_of[place]), int(corpus.text_of[stands]))
            row = {"id": corpus.ids[place], "kept_id": corpus.ids[stands], "kind": kind, "similarity": similarity}
            writer.write_row(row)
    return counts


def _dropped(corpus: Corpus, kept: NDArray[np.int64]) -> Iterator[int]:
    """Yield the documents that go, cluster by cluster and best first."""
    order = np.lexsort((corpus.ranks, corpus.ranks[kept]))
    return (int(place) for place in order if kept[place] != place)


def _similarity(corpus: Corpus, one: int, other: int) -> float:
    return 1.0 if one == other else float(corpus.shingles.similarities(one, np.array([other]))[0])
