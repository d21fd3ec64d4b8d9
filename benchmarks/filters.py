"""Our scores and rules against datatrove's Gopher, FineWeb and C4 filters: CPU time, kept set, and each rule by itself.

The peer's filters run as a process of their own in the environment of `make peers`. The corpus is made of the public
data (`support/filter_corpus.py`). Each of five rounds times both on the same fifth of it; neither reads nor writes
files. A disagreement is explained when our formulas, given spaCy's words instead of ours, say what datatrove says.
The last line is one JSON object.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from support.claims import claim
from support.filter_corpus import corpus
from support.peers import peer_python

from pipelines.corpus.annotation import text_quality
from pipelines.corpus.filter import C4Rules, FilterConfig
from pipelines.corpus.filtering import Rule, first_failing, rules
from pipelines.corpus.scoring import c4, fineweb, quality, repetition
from pipelines.corpus.scoring.characters import code_points

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ROUNDS = 5
PASSAGES = 600
SHOWN = 12
CHAIN = ("empty", "gopher", "fineweb", "c4")

Row = dict[str, Any]


class Peer:
    """Datatrove in its own environment."""

    def __init__(self, python: Path) -> None:
        script = Path(__file__).parent / "support" / "filters_peer.py"
        self._process = subprocess.Popen(
            [python, script],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": "", "PYTHONWARNINGS": "ignore"},
        )

    def ask(self, do: str, texts: list[str]) -> Any:
        """Return the answer to one request."""
        assert self._process.stdin and self._process.stdout  # noqa: S101 - both are pipes
        self._process.stdin.write(json.dumps({"do": do, "texts": texts}) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        """End the process."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.wait()


def chain_rules(config: FilterConfig) -> list[Rule]:
    """Return the rules that datatrove's chain has too."""
    return [rule for rule in rules(config) if rule[0].startswith(CHAIN)]


def single_rules() -> dict[str, list[Rule]]:
    """Return our rules under the names of the peer's; it has one for hashes and ellipses together."""
    named: dict[str, list[Rule]] = {}
    for rule in chain_rules(FilterConfig(c4=C4Rules(min_paragraph_length=200))):
        name = "gopher_symbols" if rule[0] in ("gopher_hashes", "gopher_ellipses") else rule[0]
        named.setdefault(name, []).append(rule)
    return named


def passes(name_rules: list[Rule], row: Row) -> bool:
    """Return whether the scores pass the rules."""
    return first_failing(name_rules, row) is None


def with_their_words(text: str, peer: Peer) -> Row:
    """Return our scores from the peer's words and sentences."""
    words = peer.ask("words", [text])[0]["words"]
    places, place = [], 0
    for word in words:
        place = text.index(word, place)
        places.append((place, place + len(word)))
        place += len(word)
    starts, ends = np.array(places, np.int32).reshape(-1, 2).T.copy()
    points = code_points(text)
    row = {**quality.gopher_quality(text, points, starts, ends)}
    row |= repetition.gopher_repetition(text, points, starts, ends) | fineweb.fineweb_quality(text, len(starts))
    row |= c4.c4_quality(text)
    retained = c4.retained_lines(text)
    row["c4_sentences"] = sum(item["sentences"] for item in peer.ask("words", retained)) if retained else 0
    return row


def agreement(texts: list[str], ours: list[Row], peer: Peer) -> tuple[dict[str, float], int, int]:
    """Print a table of the rules and return the agreement of each, the disagreements, and how many are explained."""
    named = single_rules()
    theirs = peer.ask("rules", texts)
    shares: dict[str, float] = {}
    odd: list[tuple[str, int]] = []
    print(f"{'rule':34} {'they drop':>9} {'we drop':>9} {'both':>9} {'agree':>9}")
    for name, own in named.items():
        if name not in theirs[0]:
            continue
        verdicts = [(passes(own, row), their[name]) for row, their in zip(ours, theirs, strict=True)]
        seen = Counter(verdicts)
        same = seen[True, True] + seen[False, False]
        shares[name] = same / len(texts)
        odd += [(name, place) for place, (mine, their) in enumerate(verdicts) if mine != their]
        dropped = [seen[True, False] + seen[False, False], seen[False, True] + seen[False, False], seen[False, False]]
        print(f"{name:34} {dropped[0]:9} {dropped[1]:9} {dropped[2]:9} {shares[name]:9.4%}")
    explained = 0
    for number, (name, place) in enumerate(odd):
        row = with_their_words(texts[place], peer)
        explained += passes(named[name], row) == theirs[place][name]
        if number < SHOWN:
            changed = {key: (ours[place][key], row[key]) for key in row if row[key] != ours[place][key]}
            print(f"  {name}, text {place}: ours and with spaCy's words {changed}")
    return shares, len(odd), explained


def main() -> int:
    """Measure, print the claims, and return 0 when all hold."""
    python = peer_python()
    if not python or not DATA.is_dir():
        print(f"filters: needs the peers and the public data at {DATA}")
        return 1
    peer = Peer(python)
    texts = corpus(DATA, PASSAGES)
    print(f"{len(texts)} documents of {sum(map(len, texts)) / len(texts):.0f} characters")
    ordered = chain_rules(FilterConfig())
    started = time.process_time()
    text_quality(texts[0])
    print(f"kernels loaded or compiled in {time.process_time() - started:.1f} s")
    rows: list[Row] = [{} for _ in texts]
    kept, their_kept = [False] * len(texts), [False] * len(texts)
    seconds: list[tuple[float, float]] = []
    for number in range(ROUNDS):
        chosen = range(number, len(texts), ROUNDS)
        answer = peer.ask("time", [texts[place] for place in chosen])
        started = time.process_time()
        for place in chosen:
            rows[place] = text_quality(texts[place])
            kept[place] = first_failing(ordered, rows[place]) is None
        seconds.append((time.process_time() - started, answer["seconds"]))
        for place, verdict in zip(chosen, answer["kept"], strict=True):
            their_kept[place] = verdict
        print(f"round {number}: ours {seconds[-1][0]:.2f} s, datatrove {seconds[-1][1]:.2f} s")
    shares, disagreements, explained = agreement(texts, rows, peer)
    peer.close()
    overall = sum(mine == their for mine, their in zip(kept, their_kept, strict=True)) / len(texts)
    ratio = statistics.median(their / mine for mine, their in seconds)
    share = sum(their_kept) / len(texts)
    worst = min(shares, key=shares.__getitem__)
    claims = [
        claim("filters, times datatrove's speed (CPU time, median of 5)", ratio, 5, at_most=False, peer=1),
        claim("filters, share that datatrove keeps, at least", share, 0.3, at_most=False),
        claim("filters, share that datatrove keeps, at most", share, 0.7),
        claim("filters, kept-set agreement", overall, 0.99, at_most=False),
        claim(f"filters, agreement of the worst rule ({worst})", shares[worst], 0.99, at_most=False),
        claim("filters, disagreements explained by other words", explained, disagreements, at_most=False),
    ]
    print(json.dumps({"name": "filters", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
