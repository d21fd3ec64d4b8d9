"""From WARC to main text: speed and F1 of both modes against Trafilatura as datatrove runs it, on 181 articles.

CPU seconds of the process and its children, ours and the peer's in turn, medians of five. Our times include the start
of the child process; `fast` reads the pages five times over, so that it is not all start. The peer runs in the
environment of `make peers` (datatrove with trafilatura below 1.12, which its extra asks for); where there is none, it
runs in this one, and the versions are printed. Give the folder of the public data as the argument.
"""

import gzip
import json
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from support.claims import claim
from support.peers import peer_python
from support.shingles import f1

from pipelines.corpus.extract import Extractor
from pipelines.corpus.extraction import ExtractorProcess, PageLimits
from pipelines.corpus.readers.crawl_pages import crawl_pages
from pipelines.corpus.readers.records import Limits, Record

RUNS = 5
ROUNDS: dict[Extractor, int] = {"fast": 5, "quality": 1}
LIMITS = Limits(record=64_000_000, page=4_000_000)
PAGE_LIMITS = PageLimits(cpu_seconds=60, memory_bytes=4_000_000_000)
SITE = "http://articles.example/"
HEADER = (
    "WARC/1.0\r\nWARC-Type: response\r\nWARC-Date: 2024-01-02T03:04:05Z\r\nWARC-Record-ID: <urn:uuid:{number}>\r\n"
    "Content-Type: application/http; msgtype=response\r\nWARC-Target-URI: {url}\r\n"
    "WARC-Identified-Payload-Type: text/html\r\nContent-Length: {length}\r\n\r\n"
)
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"


def build(data: Path, path: Path, rounds: int) -> dict[str, str]:
    """Write the pages as WARC, `rounds` times over, and return the gold text by URL."""
    pages: dict[str, bytes] = {}
    gold: dict[str, str] = {}
    with tarfile.open(data / "extraction" / "article-extraction.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() else None
            if file and member.name.endswith(".html.gz"):
                pages[Path(member.name).name.removesuffix(".html.gz")] = HTTP + gzip.decompress(file.read())
            elif file and member.name.endswith("ground-truth.json"):
                gold = {SITE + name: row["articleBody"] for name, row in json.load(file).items()}
    with path.open("wb") as out:
        for number in range(rounds):
            for name, block in pages.items():
                header = HEADER.format(number=f"{number}-{name}", url=SITE + name, length=len(block))
                out.write(gzip.compress(header.encode() + block + b"\r\n\r\n", mtime=0))
    return gold


def spent() -> float:
    """Return the CPU seconds of this process and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def ours(path: Path, extractor: Extractor) -> tuple[float, dict[str, str]]:
    """Return the CPU seconds for a file and the texts by URL."""
    started = spent()
    with ExtractorProcess(extractor, PAGE_LIMITS) as extraction:
        items = list(extraction.results(crawl_pages(path, LIMITS)))
    return spent() - started, {item.url: item.content for item in items if isinstance(item, Record)}


def peer(path: Path, folder: Path) -> tuple[float, dict[str, str], str]:
    """Return the same of datatrove, and its versions."""
    python = str(peer_python() or sys.executable)
    script = str(Path(__file__).parent / "support" / "peer_extract.py")
    done = subprocess.run([python, script, str(path), str(folder / "texts.json")], stdout=subprocess.PIPE, check=True)
    said = json.loads(done.stdout.splitlines()[-1])
    where = " (in our own environment)" if python == sys.executable else ""
    return said["seconds"], json.loads((folder / "texts.json").read_text()), said["versions"] + where


def main(data: Path, folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    paths = {mode: folder / f"{mode}.warc.gz" for mode in ROUNDS}
    paths["peer"] = folder / "peer.warc.gz"  # type: ignore[index]  # the peer reads the pages once
    gold: dict[str, str] = {}
    for mode, path in paths.items():
        gold = build(data, path, ROUNDS.get(mode, 1))
    rates: dict[str, list[float]] = {"fast": [], "quality": [], "peer": []}
    scores: dict[str, float] = {}
    for _ in range(RUNS):
        results = {mode: ours(paths[mode], mode) for mode in ROUNDS}
        seconds, texts, versions = peer(paths["peer"], folder)  # type: ignore[index]
        for name, (cpu, found) in {**results, "peer": (seconds, texts)}.items():
            rates[name].append(len(gold) * ROUNDS.get(name, 1) / cpu)  # type: ignore[call-overload]
            scores[name] = f1((text, found.get(url, "")) for url, text in gold.items())
            print(f"{name}: {rates[name][-1]:.1f} pages a CPU second, F1 {scores[name]:.4f}")
    print(f"ours: resiliparse {version('resiliparse')}, trafilatura {version('trafilatura')}; peer: {versions}")
    rate = {name: statistics.median(found) for name, found in rates.items()}
    claims = [
        claim("fast, pages a CPU second", rate["fast"], 10 * rate["peer"], at_most=False, peer=rate["peer"]),
        claim("fast, F1", scores["fast"], 0.92, at_most=False, peer=scores["peer"]),
        claim("quality, pages a CPU second", rate["quality"], rate["peer"], at_most=False, peer=rate["peer"]),
        claim("quality, F1", scores["quality"], 0.955, at_most=False, peer=scores["peer"]),
    ]
    print(json.dumps({"name": "extract", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"), Path(made)))
