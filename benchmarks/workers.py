"""Two workers against one on the data half, stage by stage, and the bytes at 1, 2 and 4 workers.

The claim is about wall time and needs two idle cores. Runs with one and with two workers alternate, and medians count.
In every round stands a measure of the machine itself: plain arithmetic in two processes against one, which is what two
workers could reach there and then. The input is English novels as JSON lines in one file, which is cut by bytes, large
enough that the start of workers is as small a part as in real use.
"""

import hashlib
import json
import lzma
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

from support.claims import claim

from pipelines.corpus.annotate import AnnotateConfig, annotate
from pipelines.corpus.decontaminate import DecontaminateConfig, decontaminate
from pipelines.corpus.dedup import DedupConfig, dedup
from pipelines.corpus.filter import FilterConfig, filter
from pipelines.corpus.ingest import IngestConfig, ingest

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ROUNDS = 3
MEGABYTE = 1_000_000
PAGE_WORDS = 400
CORPUS_MEGABYTES = int(os.environ.get("WORKERS_MEGABYTES", "160"))
SHARDS = 40
SPIN = "for number in range(30_000_000): number * number"

Stage = Callable[[], object]


def write_corpus(folder: Path) -> Path:
    """Write pieces of novels as JSON lines in one file; where the novels do not suffice, again in longer pieces."""
    path, left = folder / "rows.jsonl", CORPUS_MEGABYTES * MEGABYTE
    with path.open("w") as rows:
        for piece_words in count(PAGE_WORDS, PAGE_WORDS):
            for url, text in pages(piece_words):
                left -= rows.write(json.dumps({"text": text, "url": url}) + "\n")
                if left <= 0:
                    break
            if left <= 0:
                break
    return path


def pages(piece_words: int) -> Iterator[tuple[str, str]]:
    """Yield an address and a text for each run of paragraphs of so many words."""
    with tarfile.open(DATA / "prose" / "english-novels.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            held: list[str] = []
            for number, line in enumerate(file or ()):
                held.append(line.decode("utf-8", "replace").strip())
                if sum(len(paragraph.split()) for paragraph in held) >= piece_words:
                    yield f"https://example.org/{member.name}/{piece_words}/{number}", "\n".join(held)
                    held = []


def write_items(folder: Path) -> Path:
    """Write an evaluation set to look for."""
    folder.mkdir()
    packed = (DATA / "benchmarks" / "arc_easy.jsonl.xz").read_bytes()
    (folder / "arc_easy.jsonl").write_bytes(lzma.decompress(packed))
    return folder


def stages(source: Path, items: Path, out: Path, workers: int) -> dict[str, Stage]:
    """Return the stages in their order, each ready to run."""
    read = {"source": str(source), "shard_bytes": CORPUS_MEGABYTES * MEGABYTE // SHARDS, "workers": workers}
    documents = {name: out / name / "documents" for name in ("ingest", "annotate", "filter", "dedup")}
    searched = DecontaminateConfig(workers=workers, mirror=items)
    return {
        "ingest": lambda: ingest(IngestConfig.model_validate(read), out=out / "ingest"),
        "annotate": lambda: annotate(
            AnnotateConfig(workers=workers), documents=documents["ingest"], out=out / "annotate"
        ),
        "filter": lambda: filter(FilterConfig(workers=workers), documents=documents["annotate"], out=out / "filter"),
        "dedup": lambda: dedup(DedupConfig(workers=workers), documents=documents["filter"], out=out / "dedup"),
        "decontaminate": lambda: decontaminate(searched, documents=documents["dedup"], out=out / "decontaminate"),
    }


def run(source: Path, items: Path, out: Path, workers: int) -> tuple[dict[str, float], dict[str, str]]:
    """Return the wall seconds of each stage, and the digests of what they wrote, in a process of its own."""
    command = [sys.executable, __file__, str(source), str(items), str(out), str(workers)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True)
    written = (path for stage in out.iterdir() if stage.is_dir() for path in stage.rglob("*"))  # not the lock files
    files = sorted(path for path in written if path.is_file() and ".progress" not in path.parts)
    digests = {str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    shutil.rmtree(out)  # the disk need not hold all runs
    return json.loads(done.stdout.splitlines()[-1]), digests


def timed(source: Path, items: Path, out: Path, workers: int) -> dict[str, float]:
    """Return the wall seconds of each stage, the loading of its libraries included."""
    seconds = {}
    for name, stage in stages(source, items, out, workers).items():
        (out / name).mkdir(parents=True)
        started = time.perf_counter()
        stage()
        seconds[name] = time.perf_counter() - started
    return seconds


def two_processes() -> float:
    """Return how many times as much arithmetic two processes do here and now as one does in the same time."""

    def spin(count: int) -> float:
        started = time.perf_counter()
        running = [subprocess.Popen([sys.executable, "-S", "-c", SPIN]) for _ in range(count)]
        for process in running:
            process.wait()
        return time.perf_counter() - started

    return 2 * spin(1) / spin(2)


def measured(taken: dict[int, list[dict[str, float]]]) -> list[str]:
    """Return a line for each stage: median seconds with one worker, with two, and their ratio."""
    lines = []
    for name in taken[1][0]:
        one, two = (statistics.median(seconds[name] for seconds in taken[workers]) for workers in (1, 2))
        lines.append(f"{name}: {one:.1f} s with one worker, {two:.1f} s with two, {one / two:.2f} times")
    return lines


def main(folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    source, items = write_corpus(folder), write_items(folder / "items")
    taken: dict[int, list[dict[str, float]]] = {1: [], 2: [], 4: []}
    machine, written = [], []
    for number, workers in enumerate([1, 2] * ROUNDS + [4]):
        seconds, digests = run(source, items, folder / f"run-{number}", workers)
        taken[workers].append(seconds)
        written.append(digests)
        told = ", ".join(f"{name} {value:.1f}" for name, value in seconds.items())
        print(f"{workers} workers: {sum(seconds.values()):.1f} s ({told}), load {os.getloadavg()[0]:.1f}", flush=True)
        if workers == 2:
            machine.append(two_processes())
            print(f"the machine: two processes do {machine[-1]:.2f} times the work of one", flush=True)
    print("\n".join(measured(taken)), flush=True)
    one, two = (statistics.median(sum(seconds.values()) for seconds in taken[workers]) for workers in (1, 2))
    differing = sum(digests != written[0] for digests in written)
    claims = [
        claim("two workers over one, wall time, times faster", one / two, 1.8, at_most=False),
        claim("runs at 1, 2 and 4 workers whose bytes differ", differing, 0),
        claim("megabytes of text a second, one worker", CORPUS_MEGABYTES / one, 0, at_most=False),
        claim("what the machine gives two processes of plain arithmetic", statistics.median(machine), 0, at_most=False),
    ]
    print(json.dumps({"name": "workers", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(timed(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))))
        sys.exit()
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
