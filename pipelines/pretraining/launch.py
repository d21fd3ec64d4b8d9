"""Training in several processes: started by torchrun's agent, ended with this process."""

import json
import logging
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.slot import held_slots
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import progress_dir, read_progress
from pipelines.pretraining.combination import check_combination
from pipelines.pretraining.mesh import check_vocabulary
from pipelines.pretraining.optimizer import check_optimizer
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.pretraining.stopping import stop_on_sigterm
from pipelines.tokens.loader import TokenShards

logger = logging.getLogger(__name__)

PACKAGES = Path(__file__).resolve().parents[2]
GRACE_SECONDS = 120.0
"""What the processes have to save and stop when they are asked to, after which they are killed."""


def launch(config: PretrainConfig, inputs: Mapping[str, Path], out: Path) -> Metrics:
    """Return the figures of a run in `config.parallel.processes` processes.

    On one node they meet through files in the work directory and talk over the loopback interface, at ports that the
    kernel gives: several runs never clash. On several nodes, which share the store, the agents meet at the config's
    `rendezvous_endpoint`; those of the others are started there. SIGTERM to this process reaches them, and they save
    and stop; when this process is gone, however it went, so are they. Raises what the first process that failed raised.
    """
    check_combination(config)
    parallel = config.parallel
    check_vocabulary(parallel, TokenShards(inputs["train"]).vocab_size)
    check_optimizer(config, cut=parallel.cuts_weights, sampling=not parallel.cuts_model)
    folder = progress_dir(out) / "processes"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    job = {"config": config.model_dump(mode="json"), "inputs": {name: str(path) for name, path in inputs.items()}}
    (folder / "job.json").write_text(json.dumps({**job, "out": str(out), "run": uuid.uuid4().hex}))
    if config.parallel.nodes > 1:
        logger.info(
            "pretrain: waits at %s for the agents of %d nodes; start on each of the others: "
            "python -m pipelines.pretraining.agent %s",
            config.parallel.rendezvous_endpoint, config.parallel.nodes, folder,
        )  # fmt: skip
    with stop_on_sigterm() as stop:
        agent = subprocess.Popen(
            [sys.executable, "-m", "pipelines.artifacts.guard", "pipelines.pretraining.agent", str(folder)],
            stdin=subprocess.PIPE,
            env=_environment(),
            pass_fds=held_slots(),  # a GPU is free when nothing of the run computes on it any more
            start_new_session=True,
        )
        try:
            while not _ended(agent, 0.2) and not stop.made:
                pass
        finally:
            _end(agent)
        if stop.made:
            done = read_progress(out)
            raise StageFailed(f"pretrain: stopped after step {done.done if done else 0}; run again to go on")
    return _result(folder)


def _environment() -> dict[str, str]:
    known = os.environ.get("PYTHONPATH")
    return {
        **os.environ,
        "PYTHONPATH": f"{PACKAGES}{os.pathsep}{known}" if known else str(PACKAGES),
        "PYTHONSAFEPATH": "1",  # else a file of the current folder could stand for a library
    }


def _ended(agent: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        agent.wait(timeout=seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def _end(agent: subprocess.Popen[bytes]) -> None:
    """Ask the agent to stop if it has not, wait while the processes save, and let the guard kill what is left."""
    if agent.poll() is None:
        agent.terminate()
        _ended(agent, GRACE_SECONDS + 5)
    if agent.stdin:
        agent.stdin.close()
    agent.wait()


def _result(folder: Path) -> Metrics:
    """Return what the first process told; raise what one of them failed with, a user's mistake before all."""
    told = [json.loads(path.read_text()) for path in sorted(folder.glob("error-*.json"))]
    for kind in (UserError, StageFailed, Exception):
        for error in told:
            if error["kind"] == kind.__name__:
                raise (UserError if kind is UserError else StageFailed)(error["message"])
    metrics = folder / "metrics.json"
    if metrics.exists():
        return {str(name): float(value) for name, value in json.loads(metrics.read_text()).items()}
    ended = folder / "ended.txt"
    how = ended.read_text() if ended.exists() else "the agent that watches them was killed"
    raise StageFailed(f"pretrain: its processes ended without a result ({how}); see {folder}/*.log")
