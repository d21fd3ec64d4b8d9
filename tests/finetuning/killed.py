"""Runs a stage once undisturbed and once killed at three moments, each attempt in a fork of this process."""

import importlib
import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "shutil.rmtree"}
MOMENTS = (0.5, 0.25, 0.2)
"""When an attempt is killed, as a share of the file operations of an undisturbed run."""
HEAVY = ("torch", "transformers", "trl.trainer.sft_trainer", "trl.trainer.dpo_trainer", "peft", "datasets")


def attempt(spec: dict[str, Any], out: Path, kill_at: int | None) -> int:
    """Run the stage in a fork that dies at the file operation `kill_at`; return how many it made, or 0 if killed."""
    receiving, sending = os.pipe()
    child = os.fork()
    if child:
        os.close(sending)
        with os.fdopen(receiving) as answer:
            made = answer.read()
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            return 0
        assert os.WEXITSTATUS(status) == 0, spec
        return int(made)
    made_here = 0

    def count(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal made_here
        if event in TOUCHES and str(arguments[0]).startswith(str(out)):
            made_here += 1
            if made_here == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(count)
    stage = getattr(importlib.import_module(spec["stage"]), spec["stage"].rpartition(".")[2].upper())
    out.mkdir(exist_ok=True)
    stage.run(stage.config(**spec["config"]), **{name: Path(path) for name, path in spec["inputs"].items()}, out=out)
    os.write(sending, str(made_here).encode())
    os._exit(0)


def main() -> None:
    """Run, kill, rerun; print how many of the kills struck."""
    spec = json.loads(sys.argv[1])
    for name in HEAVY:
        importlib.import_module(name)
    folder = Path(spec["folder"])
    touches = attempt(spec, folder / "whole", None)
    kills = [attempt(spec, folder / "killed", max(1, int(touches * moment))) == 0 for moment in MOMENTS]
    if attempt(spec, folder / "killed", None):
        shutil.rmtree(folder / "killed" / ".progress")
    print(sum(kills))


if __name__ == "__main__":
    main()
