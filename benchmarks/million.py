"""A million generated documents, a fifth of them near-duplicates, through `dedup` on two cores: time and peak memory.

Texts are drawn from 50,000 words with the frequencies of Zipf's law; a near-duplicate is another text with one or
two of its words replaced. The last line is one JSON object.
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from support.claims import claim

from pipelines.corpus.documents import PROVENANCE, ROWS_PER_GROUP, document_id, part_name

SEED = 20261122
WORDS = 50_000
MEAN_WORDS = 155
"""Of a text: 1 kB."""
NEAR = 0.2
PER_PART = 50_000
GIB = 1 << 30
MOST_CHANGED = 2
DEDUP = """
import sys
from pathlib import Path
from pipelines.corpus.dedup import DedupConfig, dedup
import json
from pipelines.artifacts.peak import PeakMemory
peak = PeakMemory()
metrics = dedup(DedupConfig(workers=2), documents=Path(sys.argv[1]), out=Path(sys.argv[2]))
print(json.dumps({**metrics, "peak_bytes": peak.bytes()}))
"""


def generate(folder: Path, count: int) -> float:
    """Write the documents and return their mean length in bytes."""
    rng = np.random.default_rng(SEED)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = pa.array(["".join(rng.choice(letters, size)) for size in rng.poisson(4.5, WORDS) + 1])
    chances = 1 / np.arange(10, WORDS + 10)
    limits = np.cumsum(chances / chances.sum())
    total = 0
    folder.mkdir(parents=True)
    for part, start in enumerate(range(0, count, PER_PART)):
        rows = range(start, min(start + PER_PART, count))
        texts = texts_of(len(rows), vocabulary, limits, rng)
        total += pc.sum(pc.binary_length(texts)).as_py()
        columns = {"id": pa.array([document_id("sha256:0", row) for row in rows]), "text": texts}
        table = pa.table([columns.get(field.name, pa.nulls(len(rows), field.type)) for field in PROVENANCE], PROVENANCE)
        pq.write_table(table, folder / part_name(part), compression="zstd", row_group_size=ROWS_PER_GROUP)
    return total / count


def texts_of(count: int, vocabulary: pa.Array, limits: np.ndarray, rng: np.random.Generator) -> pa.Array:
    """Return texts of which a fifth are near-duplicates of the others."""
    lengths = rng.integers(MEAN_WORDS // 2, MEAN_WORDS * 3 // 2, count)
    near = np.flatnonzero(rng.random(count) < NEAR)
    originals = np.setdiff1d(np.arange(count), near)
    source = np.arange(count)
    source[near] = rng.choice(originals, len(near))
    lengths = lengths[source]
    ends = np.cumsum(lengths)
    words = np.searchsorted(limits, rng.random(ends[-1]))
    shift = np.repeat((ends - lengths)[source] - (ends - lengths), lengths)
    words = np.minimum(words[np.arange(len(words)) + shift], WORDS - 1)
    changed = np.repeat(near, rng.integers(1, MOST_CHANGED + 1, len(near)))
    places = (ends - lengths)[changed] + (rng.random(len(changed)) * lengths[changed]).astype(np.int64)
    words[places] = rng.integers(0, WORDS, len(places))
    offsets = pa.array(np.concatenate([[0], ends]).astype(np.int32))
    return pc.binary_join(pa.ListArray.from_arrays(offsets, vocabulary.take(pa.array(words))), " ")


def main(folder: Path, count: int) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    mean = generate(folder / "documents", count)
    started = time.perf_counter()
    command = [sys.executable, "-c", DEDUP, str(folder / "documents"), str(folder / "out")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
    seconds = time.perf_counter() - started
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    metrics = json.loads(done.stdout)
    cpu = used.ru_utime + used.ru_stime
    print(f"{count:,} documents of {mean:,.0f} bytes: {seconds:.0f} s, {cpu:.0f} CPU s, two threads; {metrics}")
    claims = [
        claim("peak memory, GiB", metrics["peak_bytes"] / GIB, 4),
        claim("share of documents removed", 1 - metrics["kept"] / metrics["in"], 0.15, at_most=False),
        claim("CPU seconds", cpu, 600),
    ]
    print(json.dumps({"name": "million", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
