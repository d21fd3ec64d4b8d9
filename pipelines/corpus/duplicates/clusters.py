"""The `clusters` output: who was dropped, who stands for it, how alike they are and which pair convicted it."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipelines.artifacts.work import atomic_file
from pipelines.corpus.compiled import compiled
from pipelines.corpus.duplicates.deciding import EXACT, KEPT, KINDS, Verdicts
from pipelines.corpus.duplicates.index import Records
from pipelines.corpus.duplicates.jaccard import Places, Sets, similarity_of

CLUSTERS = pa.schema(
    [
        ("id", pa.string()),
        ("kept_id", pa.string()),
        ("kind", pa.string()),
        ("similarity", pa.float64()),
        ("neighbour_id", pa.string()),
        ("neighbour_similarity", pa.float64()),
    ]
)
RETIRED = pa.schema([("id", pa.string()), ("kept_id", pa.string())])
ROWS = 1 << 16
"""Rows written at once."""


def write_clusters(
    records: Records, verdicts: Verdicts, emptied: NDArray[np.bool_], ranks: Places, sets: Sets, out: Path
) -> None:
    """Write a row for each new document that is dropped, cluster by cluster and best first.

    A document that was left empty by the cutting of repeated text has nobody who stands for it.
    """
    dropped = verdicts.kinds != KEPT
    dropped[: records.first_new] = False
    empty = np.zeros(len(dropped), np.bool_)
    empty[records.first_new :] = emptied
    rows = np.flatnonzero(dropped | empty)
    rows = rows[np.lexsort((ranks[rows], ranks[verdicts.stands[rows]]))]
    with (
        atomic_file(out / "clusters" / "clusters.parquet", out) as fresh,
        pq.ParquetWriter(fresh, CLUSTERS, compression="zstd") as writer,
    ):
        for start in range(0, len(rows), ROWS):
            writer.write_table(_table(records, verdicts, sets, rows[start : start + ROWS]))


def _table(records: Records, verdicts: Verdicts, sets: Sets, rows: Places) -> pa.Table:
    stands, neighbours, kinds = verdicts.stands[rows], verdicts.neighbours[rows], verdicts.kinds[rows]
    nobody = kinds == KEPT
    names = np.where(nobody, "repeated", np.array(KINDS)[kinds])
    columns = [
        records.names(rows),
        records.names(stands, nobody),
        pa.array(names.tolist(), pa.string()),
        pa.array(similarities(records, sets, rows, stands), mask=nobody),
        records.names(neighbours, nobody),
        pa.array(similarities(records, sets, rows, neighbours, kinds == EXACT), mask=nobody),
    ]
    return pa.table(columns, schema=CLUSTERS)


def similarities(
    records: Records, sets: Sets, some: Places, others: Places, equal: NDArray[np.bool_] | None = None
) -> NDArray[np.float64]:
    """Return the exact Jaccard similarity of each pair of documents; 1 where the texts are equal."""
    same = (records.digests[some] == records.digests[others]).all(axis=1)
    found = np.ones(len(some))
    _similarities(sets, some, others, same, found)
    return found


@compiled
def _similarities(sets: Sets, some: Places, others: Places, same: NDArray[np.bool_], out: NDArray[np.float64]) -> None:
    for number in range(len(some)):
        one, other = some[number], others[number]
        if not same[number]:
            some_words = sets.sizes[one] + sets.sizes[other] > 0
            out[number] = similarity_of(sets, one, other, 0.0) if some_words else 0.0


def write_retired(records: Records, verdicts: Verdicts, out: Path) -> None:
    """Write the documents of the finished corpus that a run over all would not have kept, and who stands for each."""
    gone = np.zeros(len(records), np.bool_)
    gone[: records.first_new] = records.kept_before[: records.first_new]
    rows = np.flatnonzero(gone & (verdicts.kinds != KEPT))
    columns = [records.names(places) for places in (rows, verdicts.stands[rows])]
    with atomic_file(out / "clusters" / "retired.parquet", out) as fresh:
        pq.write_table(pa.table(columns, schema=RETIRED), fresh, compression="zstd")
