"""Two workers against one on the data half: ingest, annotate and decontaminate, and the bytes at 1, 2 and 4 workers.

The claim is about wall time and needs two idle cores; runs with one and with two workers alternate, medians count.
The input is English novels as JSON lines in one file, which is cut by bytes.
"""

import hashlib
import json
import lzma
import os
import statistics
import sys
import tarfile
import tempfile
import time
from pathlib import Path

from support.claims import claim

from pipelines.corpus.annotate import AnnotateConfig, annotate
from pipelines.corpus.decontaminate import DecontaminateConfig, decontaminate
from pipelines.corpus.ingest import IngestConfig, ingest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
RUNS = 5
MEGABYTE = 1_000_000
PAGE_WORDS = 400
CORPUS_MEGABYTES = int(os.environ.get("WORKERS_MEGABYTES", "20"))
SHARD_BYTES = CORPUS_MEGABYTES * MEGABYTE // 40


def write_corpus(folder: Path) -> Path:
    """Write pieces of novels as JSON lines in one file, which is cut by bytes."""
    path = folder / "rows.jsonl"
    left = CORPUS_MEGABYTES * MEGABYTE
    with tarfile.open(DATA / "prose" / "english-novels.tar.xz") as archive, path.open("w") as rows:
        for member in archive:
            file = archive.extractfile(member)
            parts = file.read().decode("utf-8", "replace").split() if file else []
            for start in range(0, len(parts), PAGE_WORDS):
                text = " ".join(parts[start : start + PAGE_WORDS])
                left -= rows.write(
                    json.dumps({"text": text, "url": f"https://example.org/{member.name}/{start}"}) + "\n"
                )
                if left <= 0:
                    return path
    return path


def write_items(folder: Path) -> Path:
    """Write an evaluation set to look for."""
    folder.mkdir()
    packed = (DATA / "benchmarks" / "arc_easy.jsonl.xz").read_bytes()
    (folder / "arc_easy.jsonl").write_bytes(lzma.decompress(packed))
    return folder


def run(source: Path, items: Path, out: Path, workers: int) -> tuple[float, dict[str, str]]:
    """Return the wall seconds of the three stages and the digests of what they wrote."""
    started = time.perf_counter()
    crawled, scored, clean = out / "ingest", out / "annotate", out / "decontaminate"
    config = {"source": str(source), "shard_bytes": SHARD_BYTES, "workers": workers}
    ingest(IngestConfig.model_validate(config), out=crawled)
    annotate(AnnotateConfig(workers=workers), documents=crawled / "documents", out=scored)
    searched = DecontaminateConfig(workers=workers, mirror=items)
    decontaminate(searched, documents=scored / "documents", out=clean)
    seconds = time.perf_counter() - started
    found = (path for stage in (crawled, scored, clean) for path in stage.rglob("*"))
    files = sorted(path for path in found if path.is_file() and ".progress" not in path.parts)
    return seconds, {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main(folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    source, items = write_corpus(folder), write_items(folder / "items")
    taken: dict[int, list[float]] = {1: [], 2: [], 4: []}
    written = []
    for number, workers in enumerate([1, 2] * RUNS + [4]):
        seconds, digests = run(source, items, folder / f"run-{number}", workers)
        taken[workers].append(seconds)
        written.append(digests)
        print(f"{workers} workers: {seconds:.1f} s, load {os.getloadavg()[0]:.1f}", flush=True)
    one, two = statistics.median(taken[1]), statistics.median(taken[2])
    differing = sum(digests != written[0] for digests in written)
    claims = [
        claim("two workers over one, wall time, times faster", one / two, 1.8, at_most=False),
        claim("runs at 1, 2 and 4 workers whose bytes differ", differing, 0),
        claim("megabytes of text a second, one worker", CORPUS_MEGABYTES / one, 0, at_most=False),
    ]
    print(json.dumps({"name": "workers", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
