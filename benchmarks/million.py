"""A million generated documents, a fifth of them near-duplicates, through `dedup` on two cores: time and peak memory.

Texts are drawn from 50,000 words with the frequencies of Zipf's law; a near-duplicate is an earlier text with one to
four of its words replaced. The last line is one JSON object.
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
import pyarrow.parquet as pq
from claims import claim

from pipelines.corpus.documents import PROVENANCE, ROWS_PER_GROUP, document_id, part_name

SEED = 20261122
WORDS = 50_000
MEAN_WORDS = 155
"""Of a text: 1 kB."""
NEAR = 0.2
PER_PART = 50_000
GIB = 1 << 30
RECENT = 4_096
"""Originals that a near-duplicate may come from."""
DEDUP = """
import sys
from pathlib import Path
from pipelines.corpus.dedup import DedupConfig, dedup
import json
print(json.dumps(dedup(DedupConfig(workers=2), documents=Path(sys.argv[1]), out=Path(sys.argv[2]))))
"""


def generate(folder: Path, count: int) -> float:
    """Write the documents and return their mean length in bytes."""
    rng = np.random.default_rng(SEED)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    vocabulary = np.array(["".join(rng.choice(letters, size)) for size in rng.poisson(4.5, WORDS) + 1])
    chances = 1 / np.arange(10, WORDS + 10)
    limits = np.cumsum(chances / chances.sum())
    recent: list[np.ndarray] = []
    total = 0
    folder.mkdir(parents=True)
    for part, start in enumerate(range(0, count, PER_PART)):
        rows = range(start, min(start + PER_PART, count))
        texts = []
        for _ in rows:
            if recent and rng.random() < NEAR:
                words = recent[rng.integers(len(recent))].copy()
                changed = rng.integers(0, len(words), rng.integers(1, len(words) // 60 + 2))
                words[changed] = np.searchsorted(limits, rng.random(len(changed)))
            else:
                words = np.searchsorted(limits, rng.random(rng.integers(MEAN_WORDS // 2, MEAN_WORDS * 3 // 2)))
                recent = [*recent[-RECENT:], words] if len(recent) < RECENT else _replaced(recent, words, rng)
            texts.append(" ".join(vocabulary[np.minimum(words, WORDS - 1)]))
        total += sum(map(len, texts))
        columns = {"id": [document_id("sha256:0", row) for row in rows], "text": texts}
        table = pa.table(
            [columns.get(field.name, pa.nulls(len(texts), field.type)) for field in PROVENANCE], PROVENANCE
        )
        pq.write_table(table, folder / part_name(part), compression="zstd", row_group_size=ROWS_PER_GROUP)
    return total / count


def _replaced(recent: list[np.ndarray], words: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    recent[rng.integers(len(recent))] = words
    return recent


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
        claim("peak memory, GiB", used.ru_maxrss * 1024 / GIB, 4),
        claim("share of documents removed", 1 - metrics["kept"] / metrics["in"], 0.15, at_most=False),
        claim("CPU seconds", cpu, 600),
    ]
    print(json.dumps({"name": "million", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made), int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
