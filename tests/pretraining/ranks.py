"""Runs jobs of pre-training in forked processes that meet as ranks of one run; torch is imported once.

Requests come as JSON lines on standard input, answers leave as JSON lines on standard output.
"""

import importlib
import json
import os
import signal
import sys
import traceback
from pathlib import Path
from typing import Any

import torch

from pipelines.artifacts import work
from pipelines.pretraining import causal_lm, saving
from pipelines.pretraining.loop import Loop
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.pretraining.worker import join
from pipelines.pretraining.world import ALONE, World
from tests.pretraining import ring_on_cpu


def rank(request: dict[str, Any], number: int) -> None:
    """Train as one rank and write what it holds and what it counted."""
    config = PretrainConfig.model_validate_json(json.dumps(request["config"]))
    if request.get("ring_on_cpu"):
        ring_on_cpu.allow()
        config = config.model_copy(update={"device": "cpu"})
    out = Path(request["out"])
    torch.set_num_threads(1)
    os.environ["LOCAL_RANK"] = str(number)
    world = join(config, Path(request["store"]), number) if config.parallel.is_spread else ALONE
    told: dict[str, Any] = {}
    watched(request, world, told)
    inputs = {name: Path(path) for name, path in request["inputs"].items()}
    metrics = causal_lm.train_base(config, **inputs, out=out, world=world)
    world.wait()
    (out / f"told-{number}.json").write_text(json.dumps({**told, "metrics": metrics}))


def watched(request: dict[str, Any], world: World, told: dict[str, Any]) -> None:
    """Note the bytes that a rank holds after its last step, and die or be stopped where the request says."""
    stopped, killed, torn = request.get("stop_at"), request.get("kill_at"), request.get("kill_in_save")
    take, write = Loop._step, saving.write_files

    def step(loop: Loop, stop: Any) -> Any:
        weights = [getattr(weight, "ds_tensor", weight) for weight in loop.model.parameters()]  # DeepSpeed's own part
        held = [weight.to_local() if hasattr(weight, "to_local") else weight for weight in weights]
        told["bytes"] = sum(part.numel() * part.element_size() for part in held)
        told["optimizer_bytes"] = sum(
            (value.to_local() if hasattr(value, "to_local") else value).nbytes
            for optimizer in loop.optimizers
            for fields in optimizer.state.values()
            for value in fields.values()
            if isinstance(value, torch.Tensor)
        )
        if loop.position.step == request.get("nan_at"):
            whole = loop.loss.backward
            loop.loss.backward = lambda *given, last: whole(*given[:-1], float("nan"), last=last)  # type: ignore[method-assign]
        if loop.position.step == stopped and world.rank == world.size - 1:
            os.kill(os.getpid(), signal.SIGTERM)
        if loop.position.step == killed:
            os.kill(os.getpid(), signal.SIGKILL)
        taken = take(loop, stop)
        vars(loop.loss).pop("backward", None)
        return taken

    def torn_write(folder: Path, *arguments: Any) -> None:
        if int(folder.stem.removeprefix("step-")) == torn:
            folder.mkdir(parents=True)
            (folder / "model.safetensors").write_bytes(b"half a f")
            os.kill(os.getpid(), signal.SIGKILL)
        write(folder, *arguments)

    Loop._step = step  # type: ignore[method-assign]
    saving.write_files = torn_write  # type: ignore[assignment]


def main() -> None:
    """Serve requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries that print do not answer
    for line in sys.stdin:
        request = json.loads(line)
        children = []
        if request["config"]["parallel"].get("engine") == "deepspeed":
            importlib.import_module("deepspeed")  # once, and not in each rank
        for number in range(request["config"]["parallel"]["processes"]):
            child = os.fork()
            if child == 0:
                status = 1
                try:
                    rank(request, number)
                    status = 0
                except BaseException:
                    traceback.print_exc()
                    raise
                finally:
                    sys.stderr.flush()
                    os._exit(status)
            children.append(child)
        statuses = [os.waitpid(child, 0)[1] for child in children]
        answers.write(json.dumps({"statuses": statuses, "work": work.PROGRESS}) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
