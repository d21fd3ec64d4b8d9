"""Near-duplicate removal end to end, from Parquet to Parquet on one core: speed, memory, and right against the truth.

Peers run in the environment of `make peers`; one that is absent is said. Figures are CPU seconds of whole processes,
imports and the loading of compiled kernels included. Usage: `near_dedup.py [DOCUMENTS [PARTS]]`; with PARTS below 8,
datatrove, which takes 2 to 3 ms a document, reads that many of the eight parts, its seconds are multiplied by what is
left out (its stages are linear or worse), and it is judged by the truth about what it read. The last line is one JSON
object.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from support.claims import claim
from support.near_duplicates import PARTS, Removal, judged, texts, truth_of, write
from support.peers import peer_python

from pipelines.corpus.dedup import DedupConfig
from pipelines.corpus.documents import document_id, part_name

HERE = Path(__file__).resolve()
ARCHIVE = HERE.parents[2] / "shared" / "data" / "prose" / "english-novels.tar.xz"
RUNS = 5
GIGABYTE = 1_000_000_000
OURS = """
import json, sys, time
from pathlib import Path
from pipelines.artifacts.peak import PeakMemory
from pipelines.corpus.dedup import DedupConfig, dedup
peak, out = PeakMemory(), Path(sys.argv[2])
metrics = dedup(DedupConfig(), documents=Path(sys.argv[1]), out=out)
row = {"cpu_seconds": time.process_time(), "peak_bytes": peak.bytes()}
import pyarrow.parquet as pq
parts = [pq.read_table(part, columns=["id"]).column("id").to_pylist() for part in (out / "documents").iterdir()]
print(json.dumps({**row, "versions": metrics, "kept": sum(parts, [])}))
"""


def run(command: list[str], folder: Path) -> dict[str, Any] | None:
    """Return what a process printed last, or None where it failed."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])}
    with tempfile.TemporaryDirectory(dir=folder) as work:
        done = subprocess.run([*command, f"{work}/out"], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        print(done.stderr[-2000:], file=sys.stderr)
        return None
    return dict(json.loads(done.stdout.splitlines()[-1]))


def sampled(folder: Path, parts: int) -> Path:
    """Return a folder of the first parts only."""
    made = folder / f"documents-{parts}"
    made.mkdir()
    for number in range(parts):
        (made / part_name(number)).hardlink_to(folder / "documents" / part_name(number))
    return made


def main(folder: Path, count: int, parts: int) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    found = texts(ARCHIVE, count)
    write(found, folder / "documents")
    config = DedupConfig()
    read = count if parts == PARTS else parts * -(-count // PARTS)
    truths = {size: truth_of(found[:size], config.threshold, config.shingle_words) for size in {count, read}}
    ids = np.array([document_id("sha256:0", row) for row in range(count)])
    mean, pairs = sum(map(len, found)) / count, len(truths[count].pairs)
    print(f"{count:,} documents of {mean:,.0f} characters, {pairs:,} pairs of different texts at the threshold")

    def judge(row: dict[str, Any], size: int) -> Removal:
        return judged(truths[size], ~np.isin(ids[:size], np.array(row["kept"])))

    ours_command = [sys.executable, "-c", OURS, str(folder / "documents")]
    run(ours_command, folder)  # compiles the kernels, once on a machine
    python = peer_python()
    ours: list[dict[str, Any]] = []
    peers: dict[str, tuple[float, Removal]] = {}
    for name in ("datatrove", "datasketch", "rensa", *[""] * (RUNS - 3)):
        ours.append(run(ours_command, folder) or sys.exit("our own run failed"))
        size = read if name == "datatrove" else count
        documents = folder / "documents" if size == count else sampled(folder, parts)
        command = [str(python), str(HERE.parent / "support" / "near_dedup_peer.py"), name, str(documents)]
        done = run(command, folder) if name and python else None
        if done:
            peers[name] = done["cpu_seconds"] * count / size, judge(done, size)
            print(f"{name} {done['versions']}: {done['cpu_seconds']:.1f} CPU s for {size:,} documents, ", end="")
            print(f"{done['peak_bytes']:,} bytes, {peers[name][1]}")
        elif name:
            print(f"{name}: not measured, since the peers' environment cannot run it")
    seconds = statistics.median(row["cpu_seconds"] for row in ours)
    own = judge(ours[-1], count)
    print(f"ours: {[round(row['cpu_seconds'], 2) for row in ours]} CPU s, {ours[-1]['peak_bytes']:,} bytes, {own}")
    claims = [
        claim("removal F1 against exact single linkage", own.f1, 0.999, at_most=False),
        claim("unique documents removed", own.unique_removed, 0),
        claim("share of true pairs left", own.pairs_left, 0.001),
        claim("peak memory, GB", max(row["peak_bytes"] for row in ours) / GIGABYTE, 1.2),
    ]
    for name, (taken, removal) in peers.items():
        target = 10 if name == "datatrove" else 1
        claims.append(claim(f"documents a CPU second, times {name}", taken / seconds, target, at_most=False))
        claims.append(claim(f"removal F1, against {name}", own.f1, removal.f1, at_most=False, peer=removal.f1))
    print(json.dumps({"name": "near_dedup", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) and "datatrove" in peers else 1


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:]]
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made), *given, *(100_000, PARTS)[len(given) :]))
