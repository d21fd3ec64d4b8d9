"""Personal data: precision and recall by kind on labelled sentences, speed beside two peers, and hostile text.

A finding is right where it overlaps a labelled span of its kind. Peers are asked only for what they look for, and count
as right where the labelled value is gone from their output. Where `make peers` has not been run they are left out, and
that is said. Times are CPU seconds, ours and the peers' in turn, medians of five. The last line is one JSON object.
"""

import json
import lzma
import statistics
import subprocess
import sys
import tarfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from support.claims import claim
from support.peers import peer_python

from pipelines.corpus.personal.pii import FINDERS, find_pii, replace_pii
from pipelines.evaluation.intervals import wilson

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
KINDS = {
    "EMAIL_ADDRESS": "email",
    "IP_ADDRESS": "ip",
    "IBAN_CODE": "iban",
    "CREDIT_CARD": "card",
    "PHONE_NUMBER": "phone",
    "US_SSN": "national_id",
}
PROMISED = ("email", "ip", "iban", "card")
ROUNDS = 5
DOCUMENTS, CHARACTERS = 400, 1_300
HOSTILE_CHARACTERS, HOSTILE_SECONDS = 1_000_000, 20.0
HOSTILE = (
    *(
        "a",
        "1",
        "@",
        "a@",
        "a.",
        "1.",
        "1 ",
        "1-",
        ":",
        "a:",
        "1:",
        "::",
        "+1",
        "(1",
        "'",
        "a'",
        "AB12",
        "eyJ",
        "eyJa.",
    ),
    *(
        "-eyJ",
        "-eyJ" + "a" * 20,
        "-sk-",
        "ghp_",
        "AKIA",
        "token=",
        "token=a1",
        "-----BEGIN ",
        "-----BEGIN PRIVATE KEY-----",
    ),
    *(
        "=a1",
        "a@b.",
        "1 2 3 4 ",
        "12 345 678 ",
        "A1 ",
        "A1-",
        "DE12 ",
        "AB 12 34 ",
        "SSN 123 45 ",
        "0800 12 34 ",
        "phone 1 ",
    ),
)
PEER = """
import json, sys, time, warnings
warnings.simplefilter("ignore")
from datatrove.pipeline.formatters import PIIFormatter
import scrubadub
formatter, scrubber = PIIFormatter(), scrubadub.Scrubber()
peers = {"datatrove": formatter.format, "scrubadub": scrubber.clean}
for line in sys.stdin:
    request = json.loads(line)
    started = time.process_time()
    cleaned = [peers[request["peer"]](text) for text in request["texts"]]
    print(json.dumps({"seconds": time.process_time() - started, "texts": cleaned}), flush=True)
"""
LOOKS_FOR = {"datatrove": ("email", "ip"), "scrubadub": ("email", "phone", "card", "national_id")}


class Peers:
    """The peers in a process of their own."""

    def __init__(self, python: Path) -> None:
        command = [str(python), "-c", PEER]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def clean(self, peer: str, texts: list[str]) -> tuple[float, list[str]]:
        """Return the CPU seconds that a peer took, and what it made of the texts."""
        question, reply = self.process.stdin, self.process.stdout
        if question is None or reply is None:
            raise RuntimeError("the peers' process has no pipes")
        question.write(json.dumps({"peer": peer, "texts": texts}) + "\n")
        question.flush()
        answer: dict[str, Any] = json.loads(reply.readline())
        return answer["seconds"], answer["texts"]


def labelled() -> list[dict[str, Any]]:
    """Return the labelled sentences."""
    with lzma.open(DATA / "filters" / "pii-synthetic.json.xz", "rt", encoding="utf-8") as file:
        rows: list[dict[str, Any]] = json.load(file)
    return rows


def prose(rows: list[dict[str, Any]]) -> list[str]:
    """Return documents of novels with a labelled sentence in every tenth."""
    with tarfile.open(DATA / "prose" / "english-novels.tar.xz") as archive:
        novel = next(member for member in archive if member.isfile() and member.name.endswith(".txt"))
        content = archive.extractfile(novel)
        text = content.read().decode(errors="replace") if content else ""
    pieces = [text[place : place + CHARACTERS] for place in range(0, len(text), CHARACTERS)]
    pieces = (pieces * (DOCUMENTS // len(pieces) + 1))[:DOCUMENTS]
    return [f"{piece} {rows[place]['full_text']}" if place % 10 == 0 else piece for place, piece in enumerate(pieces)]


def quality(rows: list[dict[str, Any]]) -> dict[str, Counter[str]]:
    """Return, by kind, how many spans are labelled and found, and how many findings are right and wrong."""
    counts = {kind: Counter[str]() for kind in KINDS.values()}
    for row in rows:
        gold = [
            (KINDS[span["entity_type"]], span["start_position"], span["end_position"])
            for span in row["spans"]
            if span["entity_type"] in KINDS
        ]
        ours = [tuple(span) for span in find_pii(row["full_text"]) if span.kind in counts]
        for kind, start, end in gold:
            hits = [span for span in ours if span[0] == kind and span[1] < end and start < span[2]]
            counts[kind].update(["labelled", *["found"] * bool(hits), *["whole"] * ((kind, start, end) in ours)])
        for kind, start, end in ours:
            right = any(span[0] == kind and span[1] < end and start < span[2] for span in gold)
            counts[kind]["right" if right else "wrong"] += 1
    return counts


def recall_of(peer: str, rows: list[dict[str, Any]], cleaned: list[str]) -> dict[str, float]:
    """Return the share of labelled values, of the kinds that the peer looks for, that are gone from its output."""
    gone: dict[str, list[bool]] = {kind: [] for kind in LOOKS_FOR[peer]}
    for row, text in zip(rows, cleaned, strict=True):
        for span in row["spans"]:
            kind = KINDS.get(span["entity_type"])
            if kind in gone:
                gone[kind].append(span["entity_value"] not in text)
    return {kind: statistics.fmean(found) for kind, found in gone.items()}


def seconds_of_ours(texts: list[str]) -> float:
    """Return the CPU seconds of finding and replacing."""
    started = time.process_time()
    for text in texts:
        replace_pii(text, find_pii(text))
    return time.process_time() - started


def hostile() -> tuple[float, str]:
    """Return the most CPU seconds that a megabyte of one repeated piece took, and the piece."""
    worst = (0.0, "")
    for unit in HOSTILE:
        text = unit * (HOSTILE_CHARACTERS // len(unit))
        started = time.process_time()
        find_pii(text)
        worst = max(worst, (time.process_time() - started, unit))
    return worst


def main() -> int:
    """Measure, print the tables and the claims, and return 0 when all hold."""
    rows = labelled()
    claims = []
    print(f"{'kind':12} {'labelled':>8} {'recall':>7} {'95% interval':>15} {'whole':>6} {'precision':>9}")
    for kind, count in quality(rows).items():
        recall, low, high = wilson(count["found"], count["labelled"])
        precision = count["right"] / max(count["right"] + count["wrong"], 1)
        whole = count["whole"] / count["labelled"]
        interval = f"[{low:.3f}, {high:.3f}]"
        print(f"{kind:12} {count['labelled']:8} {recall:7.3f} {interval:>15} {whole:6.3f} {precision:9.3f}")
        target = 0.95 if kind in PROMISED else 0.0
        claims += [claim(f"PII recall, {kind}", recall, target, at_most=False)]
        claims += [claim(f"PII precision, {kind}", precision, target, at_most=False)]
    texts = prose(rows)
    megabytes = sum(len(text.encode()) for text in texts) / 1e6
    python = peer_python()
    times: dict[str, list[float]] = {"ours": []}
    if python:
        peers = Peers(python)
        for peer in LOOKS_FOR:
            _, cleaned = peers.clean(peer, [row["full_text"] for row in rows])
            shown = ", ".join(f"{kind} {share:.3f}" for kind, share in recall_of(peer, rows, cleaned).items())
            print(f"{peer}: recall {shown}")
    else:
        print("pii: the peers are left out")
    for _ in range(ROUNDS):
        times["ours"].append(seconds_of_ours(texts))
        for peer in LOOKS_FOR if python else ():
            times.setdefault(peer, []).append(peers.clean(peer, texts)[0])
    ours = megabytes / statistics.median(times["ours"])
    print(f"ours: {ours:.1f} MB/s of prose for {len(FINDERS)} kinds: {', '.join(FINDERS)}")
    for peer in sorted(times.keys() - {"ours"}):
        theirs = megabytes / statistics.median(times[peer])
        print(f"{peer}: {theirs:.2f} MB/s")
        claims.append(claim(f"PII, MB/s a core beside {peer}", ours, theirs, at_most=False, peer=theirs))
    seconds, unit = hostile()
    print(f"worst hostile megabyte: {seconds:.1f} CPU s, of {unit!r}")
    claims.append(
        claim(f"PII, CPU seconds for the worst of {len(HOSTILE)} hostile megabytes", seconds, HOSTILE_SECONDS)
    )
    print(json.dumps({"name": "pii", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
