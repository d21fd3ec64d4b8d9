"""Runs one node of the smoke recipe in a forked process that may be killed at a chosen moment.

Importing torch, TRL and lm-eval takes seven CPU seconds, so one process imports them, computes nothing, and forks a
child for every attempt. Requests come as JSON lines on standard input, answers leave as JSON lines on standard output.
"""

import json
import os
import signal
import sys
import threading
import warnings
from pathlib import Path
from typing import Any

from pipelines.artifacts.run import LocalRun, Planner, needed_for, until_sound
from pipelines.artifacts.store import Store
from pipelines.products import full
from pipelines.recipes import smoke

TOUCHES = {"open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree"}
HEAVY = (
    *("torch", "transformers", "trl", "peft", "datasets", "lm_eval.models.huggingface", "bitsandbytes"),
    *("matplotlib.figure", "pyarrow.parquet", "datatrove.executor.local", "numba", "tokenizers", "trafilatura"),
    "resiliparse.extract.html2text",
)


class Watch:
    """Counts what the process does to files of the store while a node is built, and kills it at the chosen touch."""

    def __init__(self, root: Path, kill_at: int | None) -> None:
        self.root, self.kill_at = str(root), kill_at
        self.active, self.touches, self.first_commit, self.publication = False, 0, 0, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Be told of an audit event."""
        if not self.active or event not in TOUCHES or not str(arguments[0]).startswith(self.root):
            return
        self.touches += 1
        if event == "os.rename" and str(arguments[1]).endswith("progress.json") and not self.first_commit:
            self.first_commit = self.touches
        if event == "os.rename" and str(arguments[0]).startswith(f"{self.root}/.work") and Path(arguments[0]).is_dir():
            self.publication = self.touches
        if self.touches == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)


def attempt(root: Path, node: str, kill_at: int | None, kill_after: float | None, answer: Path) -> None:
    """Build the node, or die in the attempt."""
    store = Store(root)
    store.prepare()
    watch = Watch(root, kill_at)
    sys.addaudithook(watch)

    def started(name: str) -> None:
        watch.active = name == node
        if watch.active and kill_after is not None:
            timer = threading.Timer(kill_after, os.kill, (os.getpid(), signal.SIGKILL))
            timer.daemon = True
            timer.start()

    config = smoke()
    planner = Planner(store)
    full(config, planner)
    run = LocalRun(store, only=needed_for(node, planner.rows), on_start=started)
    until_sound(lambda: full(config, run), run)
    answer.write_text(
        json.dumps(
            {
                "touches": watch.touches,
                "first_commit": watch.first_commit,
                "publication": watch.publication,
                "hits": {result.node: result.hit for result in run.results},
                "outputs": run.results[-1].manifest.outputs,
                "seconds": run.results[-1].manifest.seconds,
            }
        )
    )


def main() -> None:
    """Serve attempts until standard input ends."""
    import importlib

    warnings.simplefilter("ignore")
    for name in HEAVY:
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        answer = Path(request["answer"])
        answer.unlink(missing_ok=True)
        child = os.fork()
        if child == 0:
            status = 1
            try:
                attempt(Path(request["store"]), request["node"], request["kill_at"], request["kill_after"], answer)
                status = 0
            finally:
                sys.stderr.flush()
                os._exit(status)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(
            json.dumps({"signal": os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0, "status": status}) + "\n"
        )
        sys.stdout.flush()


if __name__ == "__main__":
    main()
