"""Removing duplicates in three passes: read and sign, link, write.

In memory are some 200 bytes a document, and what the threads hold of a few row groups. Shingles, band keys and band
tables lie in files: 8 bytes a word, and 20 bytes a band and document.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.progress import say
from pipelines.artifacts.stage import Metrics
from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.duplicates.clusters import write_clusters, write_retired
from pipelines.corpus.duplicates.deciding import EXACT, KEPT, KINDS, NEAR, URL, Verdicts, decide
from pipelines.corpus.duplicates.index import Records, settings_of, write_index
from pipelines.corpus.duplicates.keeping import ranks_of
from pipelines.corpus.duplicates.minhash import choose_bands
from pipelines.corpus.duplicates.reading import read_all
from pipelines.corpus.duplicates.repeated import RepeatedText
from pipelines.corpus.duplicates.summary import write_summary
from pipelines.corpus.selection import write_kept


def build(config: DedupConfig, documents: Path, out: Path) -> Metrics:
    """Write `documents/`, `clusters/` and `index/` below `out` and return the counts."""
    bands, rows = choose_bands(config.threshold, config.permutations, config.candidate_recall)
    settings = settings_of(config, bands, rows)
    records, runs = read_all(config, settings, documents, out)
    new = slice(records.first_new, None)
    count = len(records) - records.first_new
    if not count:
        raise EmptyOutput("dedup", {"in": 0})
    stays = records.kept_before if config.indexed == "stay" else np.zeros(len(records), np.bool_)
    ranks = _ranks(records, stays)
    sets = records.sets()
    verdicts = decide(records, runs, ranks, sets, config.threshold, stays)
    kept = verdicts.kinds == KEPT
    if config.indexed == "stay":
        kept[: records.first_new] = records.kept_before[: records.first_new]
    repeated = RepeatedText(config.repeated, ranks[new])
    repeated.find(documents, kept[new], out)
    write_kept(documents, out, kept[new], config.workers, repeated.cut if repeated.found else None)
    kept[new] &= ~repeated.emptied
    if not kept[new].any() and config.index is None:
        raise EmptyOutput("dedup", {"in": count, "repeated": int(repeated.emptied.sum())})
    write_clusters(records, verdicts, repeated.emptied, ranks, sets, out)
    if config.index is not None and config.indexed == "compete":
        write_retired(records, verdicts, out)
    write_summary(config, settings, documents, verdicts, records, out)
    if config.keep_index:
        write_index(records, kept, settings, out)
    metrics = _counts(records, verdicts, kept, repeated)
    if config.index is not None:
        metrics["known"] = float(records.known())
        if not metrics["kept"]:
            say(
                f"dedup: nothing is new: {metrics['known']:,.0f} of {count:,} documents are in the index already, the "
                "others duplicate what it holds; the output is empty"
            )
    return metrics | {"bands": float(bands), "rows": float(rows)}


def _ranks(records: Records, stays: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the ranks by the rule; but documents that stay come first, and those dropped before come last then."""
    ranks = ranks_of(records.order, records.lengths, records.ids)
    if not stays.any():
        return ranks
    level = np.ones(len(records), np.int8)
    level[: records.first_new] = 2
    level[stays] = 0
    placed = np.empty(len(records), np.int64)
    placed[np.lexsort((ranks, level))] = np.arange(len(records))
    return placed


def _counts(records: Records, verdicts: Verdicts, kept: NDArray[np.bool_], repeated: RepeatedText) -> Metrics:
    new = slice(records.first_new, None)
    kinds = verdicts.kinds[new]
    metrics = {
        "in": float(len(kinds)),
        "kept": float(np.count_nonzero(kept[new])),
        "dropped.exact": float(np.count_nonzero(kinds == EXACT)),
        "dropped.near": float(np.count_nonzero(kinds == NEAR)),
        "clusters": float(len(np.unique(verdicts.stands[new][kinds != KEPT]))),
    }
    _, candidates, verified = verdicts.forest.counts.tolist()
    metrics |= {"candidates": float(candidates), "verified": float(verified)}
    if (kinds == URL).any():
        metrics[f"dropped.{KINDS[URL]}"] = float(np.count_nonzero(kinds == URL))
    return metrics | repeated.counts()
