"""What a plan says a run will take against what it takes: time and peak memory of ten configs on this machine.

They differ in architecture, size, sequence length, batch, accumulation, optimizer and attention. Each is measured for
some seconds in the way of `gristmill plan --calibrate`, predicted, and run on English novels as a stage, in a process
of its own. Seconds are those that the processes compute, so that what else the machine does counts little. Beside it
the reckoning by operations, at the median rate of the ten, which is known only afterwards. Results are kept in
PLANNER_STORE, so that the ten can be measured in pieces; five minutes on one core. The last line is one JSON object.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.claims import claim
from support.ladder import Ladder

from pipelines.artifacts.peak import PeakMemory
from pipelines.artifacts.store import Store
from pipelines.planning.calibrate import calibrate
from pipelines.planning.calibration import Calibration
from pipelines.planning.counts import counts_of
from pipelines.planning.prediction import Prices, predict
from pipelines.pretraining.pretrain import PretrainConfig, pretrain

FOLDER = Path(os.environ.get("PLANNER_STORE", Path(tempfile.gettempdir()) / "gristmill-planner"))
VOCABULARY = 4096
FLOPS = 2e11
"""Of a run: some five seconds on a quiet core."""
FEWEST_STEPS = 24
MEDIAN, WORST = 0.15, 0.35
CONFIGS: dict[str, dict[str, Any]] = {
    "llama tiny": {"size": "tiny", "sequence_length": 64, "global_batch": 8},
    "llama mini": {"size": "mini", "sequence_length": 128, "global_batch": 8},
    "llama mini, Muon, accumulated": {
        "size": "mini", "sequence_length": 256, "global_batch": 8, "micro_batch": 2, "optimizer": "muon"
    },
    "llama smoke, Sophia": {"size": "smoke", "sequence_length": 128, "global_batch": 8, "optimizer": "sophia"},
    "llama mini, recomputed, Adafactor": {
        "size": "mini", "sequence_length": 256, "global_batch": 4, "optimizer": "adafactor",
        "activation_checkpointing": True,
    },
    "qwen3 mini, 512 tokens in blocks": {
        "architecture": "qwen3", "size": "mini", "sequence_length": 512, "global_batch": 4, "micro_batch": 2,
        "attention": "blockwise",
    },
    "gpt2 smoke, accumulated": {
        "architecture": "gpt2", "size": "smoke", "sequence_length": 128, "global_batch": 16, "micro_batch": 4
    },
    "bert smoke": {"architecture": "bert", "size": "smoke", "sequence_length": 128, "global_batch": 16},
    "modernbert tiny, Lion": {
        "architecture": "modernbert", "size": "tiny", "sequence_length": 256, "global_batch": 8, "optimizer": "lion"
    },
    "mixtral tiny": {"architecture": "mixtral", "size": "tiny", "sequence_length": 128, "global_batch": 8},
}  # fmt: skip


@dataclass(frozen=True)
class Result:
    """A config's predicted and measured figures."""

    name: str
    seconds: tuple[float, float]
    memory: tuple[float, float]
    flops: float
    calibration_seconds: float
    holds: bool
    """Both measured figures lie in the predicted intervals."""


def config_of(settings: dict[str, Any]) -> PretrainConfig:
    """Return a run of some seconds."""
    one = PretrainConfig(max_steps=1, **settings)
    steps = max(FEWEST_STEPS, round(FLOPS / counts_of(one, VOCABULARY).flops))
    return PretrainConfig(
        max_steps=steps,
        warmup_steps=2,
        heldout_every=max(10, steps // 2),
        heldout_sequences=32,
        checkpoint_every=max(8, steps // 3),
        **settings,
    )


def measured(name: str, inputs: dict[str, Path]) -> Result:
    """Predict a run, run it, and return both."""
    config = config_of(CONFIGS[name])
    start = time.perf_counter()
    calibration = calibrate(FOLDER, config, VOCABULARY, clock="cpu")
    taken = time.perf_counter() - start
    if not isinstance(calibration, Calibration):
        sys.exit(f"{name}: {calibration}")
    predicted = predict(config, calibration, Prices())
    with tempfile.TemporaryDirectory() as out:
        job = {"config": config.model_dump(mode="json"), "out": out}
        job["inputs"] = {key: str(path) for key, path in inputs.items()}
        done = subprocess.run(
            [sys.executable, __file__, json.dumps(job)], stdout=subprocess.PIPE, text=True, check=True
        )
    found = json.loads(done.stdout.splitlines()[-1])
    return Result(
        name,
        (predicted.seconds.value, found["seconds"]),
        (predicted.memory_bytes.value, found["memory"]),
        counts_of(config, VOCABULARY).flops,
        taken,
        all(
            interval.low <= actual <= interval.high
            for interval, actual in ((predicted.seconds, found["seconds"]), (predicted.memory_bytes, found["memory"]))
        ),
    )


def run(job: dict[str, Any]) -> None:
    """Run a config as the stage does and tell what it took, the loading of its libraries as well."""
    config = PretrainConfig.model_validate_json(json.dumps(job["config"]))
    memory = PeakMemory()
    pretrain(config, **{name: Path(path) for name, path in job["inputs"].items()}, out=Path(job["out"]))
    print(json.dumps({"seconds": time.process_time(), "memory": memory.bytes()}))


def error(predicted: float, actual: float) -> float:
    """Return how far off a prediction was, as a share of what was measured."""
    return abs(predicted / actual - 1)


def told(row: Result) -> str:
    """Return a line on one config."""
    (seconds, taken), (memory, held) = row.seconds, row.memory
    return (
        f"{row.name}: {seconds:.1f} s predicted, {taken:.1f} taken ({seconds / taken - 1:+.0%}); "
        f"{memory / 2**20:,.0f} MiB predicted, {held / 2**20:,.0f} taken ({memory / held - 1:+.0%}); "
        f"measured for {row.calibration_seconds:.0f} s"
    )


def main() -> int:
    """Measure what is missing, print the table and the claims, and return 0 when all hold."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    ladder = Ladder(Store(FOLDER / "store"), FOLDER)
    inputs = {**{name: ladder.shards[name].path for name in ("train", "heldout")}, "tokenizer": ladder.tokenizer.path}
    results = []
    for number, name in enumerate(CONFIGS):
        kept = FOLDER / f"{number}.json"
        if not kept.is_file():
            kept.write_text(json.dumps(vars(measured(name, inputs))))
        results.append(Result(**json.loads(kept.read_text())))
        row = results[-1]
        print(told(row), flush=True)
    times, memories = ([error(*getattr(row, name)) for row in results] for name in ("seconds", "memory"))
    rate = statistics.median(row.flops / row.seconds[1] for row in results)
    reckoned = [error(row.flops / rate, row.seconds[1]) for row in results]
    held = sum(row.holds for row in results)
    what = "time, median error (peer: operations at their median rate)"
    claims = [
        claim(what, statistics.median(times), MEDIAN, peer=statistics.median(reckoned)),
        claim("time, worst error (peer: the same)", max(times), WORST, peer=max(reckoned)),
        claim("peak memory, median error", statistics.median(memories), MEDIAN),
        claim("peak memory, worst error", max(memories), WORST),
        claim("runs of ten with time and memory in their intervals", held, 8, at_most=False),
        claim("seconds to measure a shape, median", statistics.median(row.calibration_seconds for row in results), 20),
    ]
    print(json.dumps({"name": "planner", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(json.loads(sys.argv[1]))
    else:
        sys.exit(main())
