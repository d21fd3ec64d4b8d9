"""How fast a bundle answers on this machine: a measurement, so it is never cached and never part of a key."""

import statistics
import time
from pathlib import Path

from pipelines.evaluation.gates import Latency
from pipelines.serving.bundle import open_bundle
from pipelines.serving.engine import Engine, Sampling
from pipelines.serving.prompts import Prompter
from pipelines.serving.schema import Message

DRAWS = 16
"""Replies that may be empty before a trial is given up: a young model often ends at once."""


def measure_latency(bundle: Path, prompt: str, *, trials: int, tokens: int, device: str) -> Latency:
    """Return the medians over replies to one prompt, after a first that warms up; replies of no token do not count."""
    folder = open_bundle(bundle).model()
    engine = Engine(folder, device)
    prompter = Prompter(folder, engine.tokenizer)
    ids = prompter.chat([Message(role="user", content=prompt)]) if prompter.template else prompter.text(prompt)
    room = max(1, min(tokens, engine.context - len(ids)))
    _timed(engine, ids[: engine.context - room], room, seed=0)
    timed = [_timed(engine, ids[: engine.context - room], room, seed=trial * DRAWS) for trial in range(trials)]
    return Latency(
        first_token_seconds=statistics.median(first for first, _ in timed),
        tokens_per_second=statistics.median(rate for _, rate in timed),
        trials=trials,
        device=device,
    )


def _timed(engine: Engine, ids: list[int], tokens: int, seed: int) -> tuple[float, float]:
    """Return the seconds to the first piece of a reply, and its tokens a second."""
    first = rate = 0.0
    for draw in range(DRAWS):
        started, first, count = time.perf_counter(), 0.0, 0
        for piece in engine.complete(ids, Sampling(max_tokens=tokens, seed=seed + draw)):
            first = first or time.perf_counter() - started
            count += piece.tokens
        rate = count / (time.perf_counter() - started)
        if count:
            break
    return first, rate
