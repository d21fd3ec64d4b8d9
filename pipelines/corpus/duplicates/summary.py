"""`clusters/summary.json`: the chance of meeting by similarity, the sizes of clusters, and pairs to look at."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from pipelines.artifacts.work import atomic_file
from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.duplicates.deciding import NEAR, Verdicts
from pipelines.corpus.duplicates.index import Records
from pipelines.corpus.duplicates.minhash import meeting_chance
from pipelines.corpus.selection import numbered_parts

CURVE = [number / 20 for number in range(21)]
PAIRS = 10
EXCERPT = 300
"""Characters of a sample's text: enough to see what two documents have in common."""


def write_summary(
    config: DedupConfig, settings: dict[str, Any], documents: Path, verdicts: Verdicts, records: Records, out: Path
) -> None:
    """Write what a report shows of a deduplication."""
    bands, rows = int(settings["bands"]), int(settings["rows"])
    sizes = np.unique(verdicts.stands, return_counts=True)[1]
    histogram = Counter(sizes.tolist())
    summary = {
        "threshold": config.threshold,
        "bands": bands,
        "rows": rows,
        "meeting_chance": [[similarity, meeting_chance(similarity, bands, rows)] for similarity in CURVE],
        "cluster_sizes": sorted(histogram.items()),
        "pairs": _pairs(documents, verdicts, records),
    }
    with atomic_file(out / "clusters" / "summary.json", out) as fresh:
        fresh.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _pairs(documents: Path, verdicts: Verdicts, records: Records) -> list[dict[str, Any]]:
    """Return verified pairs from the least to the most alike, with the beginning of each text that was read."""
    forest = verdicts.forest
    count = int(forest.counts[0])
    pairs, alike = forest.pairs[:count], forest.similarities[:count]
    fresh = np.flatnonzero((verdicts.kinds[pairs] == NEAR).any(axis=1) & (pairs >= records.first_new).any(axis=1))
    order = fresh[np.argsort(alike[fresh], kind="stable")]
    chosen = order[np.unique(np.linspace(0, len(order) - 1, min(PAIRS, len(order))).astype(np.int64))]
    texts = _texts(documents, {int(place) - records.first_new for place in pairs[chosen].ravel()})
    return [
        {
            "similarity": float(alike[number]),
            "documents": [
                {"id": records.ids[int(place)].as_py(), "text": texts.get(int(place) - records.first_new)}
                for place in pairs[number]
            ],
        }
        for number in chosen
    ]


def _texts(documents: Path, rows: set[int]) -> dict[int, str]:
    """Return the beginnings of the texts in these rows; only the row groups that hold them are read."""
    found: dict[int, str] = {}
    for part, first in numbered_parts(documents):
        with pq.ParquetFile(part) as file:
            for group in range(file.metadata.num_row_groups):
                count = file.metadata.row_group(group).num_rows
                wanted = sorted(rows & set(range(first, first + count))) if rows else []
                if wanted:
                    column = file.read_row_group(group, columns=["text"]).column("text")
                    found |= {row: (column[row - first].as_py() or "")[:EXCERPT] for row in wanted}
                first += count
    return found
