"""Two and four processes train what one trains: the same samples, losses to rounding, shares of the state."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint import HuggingFaceStorageReader, load

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.work import progress_dir, read_progress
from pipelines.pretraining.pretrain import ParallelConfig, PretrainConfig, pretrain

ROOT = Path(__file__).resolve().parents[2]
CONFIG = PretrainConfig(
    size="tiny",
    sequence_length=16,
    global_batch=4,
    micro_batch=1,
    max_steps=20,
    warmup_steps=2,
    heldout_every=10,
    heldout_sequences=2,
    checkpoint_every=5,
    publish="average",
)


SIZES = [(2, "ddp"), (2, "fsdp"), *(pytest.param(4, mode, marks=pytest.mark.slow) for mode in ("ddp", "fsdp"))]


@dataclass
class Ranks:
    """A process that has imported torch and forks the ranks of a run."""

    process: subprocess.Popen[str]
    inputs: dict[str, str]

    def train(self, out: Path, processes: int, mode: str = "ddp", **request: Any) -> list[int]:
        """Return how each rank ended, 0 for well."""
        out.mkdir(exist_ok=True, parents=True)
        config = {**CONFIG.model_dump(mode="json"), "parallel": {"processes": processes, "mode": mode}}
        config |= request.pop("config", {})
        store = out / f"store-{len(list(out.glob('store-*')))}"
        line = {"config": config, "inputs": self.inputs, "out": str(out), "store": str(store), **request}
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        return list(json.loads(self.process.stdout.readline())["statuses"])


@pytest.fixture(scope="module")
def ranks(inputs: Any) -> Iterator[Ranks]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.pretraining.ranks"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    yield Ranks(process, {name: str(path) for name, path in inputs.named().items()})
    assert process.stdin and process.stdout
    process.stdin.close()
    process.wait(timeout=60)
    process.stdout.close()


@pytest.fixture(scope="module")
def alone(ranks: Ranks, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("alone")
    assert ranks.train(out, 1) == [0]
    return out


def curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "curve" / "curve.jsonl").read_text().splitlines()]


def assert_same_run(one: Path, other: Path) -> None:
    assert len(curve(one)) == len(curve(other))
    for row, expected in zip(curve(other), curve(one), strict=True):
        assert row == pytest.approx(expected, rel=2e-5, abs=1e-5)
        assert abs(row["loss"] - expected["loss"]) < 1e-5, row["step"]
    for file in ("state/model.safetensors", "state/averages.safetensors", "model/model.safetensors"):
        expected = load_file(one / file)
        for name, tensor in load_file(other / file).items():
            torch.testing.assert_close(tensor, expected[name], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(("processes", "mode"), SIZES)
def test_several_processes_train_what_one_trains(
    processes: int, mode: str, ranks: Ranks, alone: Path, tmp_path: Path
) -> None:
    assert ranks.train(tmp_path, processes, mode) == [0] * processes
    assert_same_run(alone, tmp_path)
    lines = [json.loads(line) for line in (tmp_path / "log" / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [10, 20]
    assert all(0 < line["communication_share"] < 1 for line in lines)
    told = [json.loads((tmp_path / f"told-{number}.json").read_text()) for number in range(processes)]
    whole = json.loads((alone / "told-0.json").read_text())
    if mode == "ddp":
        assert all(rank["bytes"] == whole["bytes"] for rank in told)
    else:
        assert sum(rank["bytes"] for rank in told) == whole["bytes"]
        assert max(rank["bytes"] for rank in told) < 1.05 * whole["bytes"] / processes
        assert max(rank["optimizer_bytes"] for rank in told) < 1.05 * whole["optimizer_bytes"] / processes
    assert all(rank["metrics"] == told[0]["metrics"] for rank in told)


@pytest.mark.slow
def test_muon_trains_the_same_on_shares_of_a_matrix(ranks: Ranks, tmp_path: Path) -> None:
    muon = {"optimizer": "muon", "max_steps": 6}
    assert ranks.train(tmp_path / "one", 1, config=muon) == [0]
    assert ranks.train(tmp_path / "two", 2, "fsdp", config=muon) == [0, 0]
    assert_same_run(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["ddp", "fsdp"])
def test_a_run_goes_on_with_one_then_two_then_four_then_one_process(
    mode: str, ranks: Ranks, alone: Path, tmp_path: Path
) -> None:
    for processes, stop in ((1, 4), (2, 9), (4, 15)):
        statuses = ranks.train(tmp_path, processes, mode, stop_at=stop)
        assert all(os.WTERMSIG(status) == signal.SIGTERM for status in statuses[-1:]), statuses
        progress = read_progress(tmp_path)
        assert progress is not None and progress.done == stop
    assert ranks.train(tmp_path, 1) == [0]
    assert_same_run(alone, tmp_path)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled")  # by `no_dist`, as is meant
def test_torchs_own_reader_reads_a_checkpoint_in_shares(ranks: Ranks, tmp_path: Path) -> None:
    ranks.train(tmp_path, 2, "fsdp", config={"max_steps": 3})
    newest = progress_dir(tmp_path) / "checkpoints" / "step-000003"
    published = load_file(tmp_path / "state" / "model.safetensors")
    parts = tmp_path / "parts"
    parts.mkdir()
    for part in newest.glob("model-*.safetensors"):
        part.rename(parts / part.name)
    read = {name: torch.zeros_like(tensor) for name, tensor in published.items()}
    load(read, storage_reader=HuggingFaceStorageReader(str(parts)), no_dist=True)
    assert all(torch.equal(read[name], published[name]) for name in published)


@pytest.mark.slow
def test_a_share_that_is_missing_makes_a_checkpoint_damaged(ranks: Ranks, alone: Path, tmp_path: Path) -> None:
    ranks.train(tmp_path, 2, "fsdp", stop_at=12)
    newest = progress_dir(tmp_path) / "checkpoints" / "step-000012"
    (newest / "optimizer-00002-of-00002.safetensors").unlink()
    assert ranks.train(tmp_path, 2, "fsdp") == [0, 0]
    assert_same_run(alone, tmp_path)


@pytest.mark.slow
def test_a_run_killed_at_ten_steps_and_in_a_save_ends_in_the_same_bytes(ranks: Ranks, tmp_path: Path) -> None:
    exact = {"attention_dropout": 0.1, "micro_batch": 2, "checkpoint_every": 2, "max_steps": 24, "publish": "average"}
    assert ranks.train(tmp_path / "calm", 1, config=exact) == [0]
    draws = random.Random(20261122)
    moments = sorted(draws.sample(range(1, 24), 10))
    for number, step in enumerate(moments):
        torn = {"kill_in_save": step + step % 2} if number % 3 == 2 else {"kill_at": step}
        assert ranks.train(tmp_path / "killed", 1, config=exact, **torn) == [signal.SIGKILL], torn
    assert ranks.train(tmp_path / "killed", 1, config=exact) == [0]
    assert published(tmp_path / "killed") == published(tmp_path / "calm")


@pytest.mark.slow
def test_two_ranks_killed_in_a_save_go_on_in_the_same_bits(ranks: Ranks, tmp_path: Path) -> None:
    exact = {"attention_dropout": 0.1, "max_steps": 12, "checkpoint_every": 3}
    assert ranks.train(tmp_path / "calm", 2, config=exact) == [0, 0]
    assert ranks.train(tmp_path / "killed", 2, config=exact, kill_at=7)[1] == signal.SIGKILL
    assert ranks.train(tmp_path / "killed", 2, config=exact) == [0, 0]
    assert published(tmp_path / "killed") == published(tmp_path / "calm")


def published(out: Path) -> dict[str, str]:
    """The digests of weights, state and loss rows."""
    files = [path for name in ("model", "state", "curve") for path in sorted((out / name).rglob("*"))]
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in files}


def test_a_batch_that_does_not_divide_is_refused(inputs: Any, tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"parallel": ParallelConfig(processes=3)})
    with pytest.raises(UserError, match=r"global_batch: 4 does not divide by the 3 of parallel\.processes"):
        pretrain(config, **inputs.named(), out=tmp_path)


def test_the_number_of_processes_is_not_in_the_key() -> None:
    assert CONFIG.model_copy(update={"parallel": ParallelConfig(processes=8)}).identity() == CONFIG.identity()
