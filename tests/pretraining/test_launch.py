"""A run in two processes by torchrun: it ends with whoever asked for it, and saves where it is asked to stop."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.work import read_progress

pytestmark = pytest.mark.slow
SCRIPT = """
import json, sys
from pathlib import Path
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
facts = json.loads(sys.argv[1])
inputs = {name: Path(path) for name, path in facts["inputs"].items()}
print(json.dumps(pretrain(PretrainConfig(**facts["config"]), **inputs, out=Path(facts["out"]))))
"""
CONFIG = {"size": "tiny", "sequence_length": 16, "global_batch": 4, "micro_batch": 1, "max_steps": 100_000}
CONFIG |= {"warmup_steps": 2, "heldout_every": 100_000, "heldout_sequences": 2, "checkpoint_every": 5}
CONFIG |= {"parallel": {"processes": 2}}


def start(inputs: Any, out: Path, **changes: Any) -> subprocess.Popen[str]:
    named = {name: str(path) for name, path in inputs.named().items()}
    facts = json.dumps({"config": CONFIG | changes, "inputs": named, "out": str(out)})
    return subprocess.Popen([sys.executable, "-c", SCRIPT, facts], stdout=subprocess.PIPE, text=True)


def descendants(parent: int) -> set[int]:
    """The processes below one, by Linux's table of them."""
    found, waiting = set(), [parent]
    while waiting:
        for task in Path(f"/proc/{waiting.pop()}/task").glob("*/children"):
            children = {int(number) for number in task.read_text().split()}
            waiting += children
            found |= children
    return found


def running(processes: set[int]) -> set[int]:
    states = {number: Path(f"/proc/{number}/stat") for number in processes}
    return {number for number, stat in states.items() if stat.exists() and ") Z " not in stat.read_text()}


def wait_for_checkpoint(process: subprocess.Popen[str], out: Path) -> set[int]:
    """Return the processes of a run once a checkpoint is whole."""
    while read_progress(out) is None:
        assert process.poll() is None, "the run ended too early"
        time.sleep(0.05)
    return descendants(process.pid)


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's table of processes")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_processes_of_a_run_end_with_the_one_that_asked_for_it(number: int, inputs: Any, tmp_path: Path) -> None:
    process = start(inputs, tmp_path)
    below = wait_for_checkpoint(process, tmp_path)
    assert len(below) >= 3, "an agent and two ranks"
    os.kill(process.pid, number)
    assert process.wait(timeout=60) == -number
    assert process.stdout
    process.stdout.close()
    deadline = time.monotonic() + 6
    while running(below) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not running(below)
    progress = read_progress(tmp_path)
    assert progress is not None and progress.done > 0
    if number == signal.SIGTERM:
        newest = max((tmp_path / ".progress" / "checkpoints").glob("step-*[0-9]"))
        assert int(newest.name.removeprefix("step-")) == progress.done


def test_a_mistake_that_a_rank_finds_is_told_in_one_line(inputs: Any, tmp_path: Path) -> None:
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps({
            "config": CONFIG | {"sequence_length": 100_000},
            "inputs": {name: str(path) for name, path in inputs.named().items()},
            "out": str(tmp_path),
        })],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    assert process.stderr.splitlines()[-1].startswith("pipelines.artifacts.errors.UserError: sequence_length: 100,000")


def test_the_agents_of_two_nodes_meet_at_an_endpoint(inputs: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        endpoint = f"127.0.0.1:{free.getsockname()[1]}"
    mesh = {"processes": 2, "nodes": 2, "rendezvous_endpoint": endpoint}
    first = start(inputs, tmp_path, parallel=mesh, max_steps=4)
    job = tmp_path / ".progress" / "processes" / "job.json"
    while not job.exists():
        assert first.poll() is None, "the run ended too early"
        time.sleep(0.05)
    second = subprocess.run(
        [sys.executable, "-m", "pipelines.pretraining.agent", str(job.parent)],
        capture_output=True, text=True, check=False, timeout=240,
    )  # fmt: skip
    told, _ = first.communicate(timeout=240)
    assert (first.returncode, second.returncode) == (0, 0), second.stderr
    assert json.loads(told)["steps"] == 4
    assert len(list((tmp_path / ".progress" / "checkpoints" / "step-000004").glob("model-*-of-00002.safetensors"))) == 2
