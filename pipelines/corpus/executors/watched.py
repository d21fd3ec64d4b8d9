"""Following work that runs elsewhere, by the manifests that its shards leave on the shared file system."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pipelines
from pipelines.corpus.shard_step import ShardStep, committed

CODE = Path(pipelines.__path__[0]).resolve().parent
"""Where this code is imported from: elsewhere the same code is to run."""


def commits(step: ShardStep, alive: Callable[[], bool], poll_seconds: float) -> Iterator[int]:
    """Yield each shard of the step as its manifest appears, until nothing is alive and nothing new has come."""
    left = set(step.shards)
    patience = 1  # a shared file system may show the last manifests some seconds late
    while True:
        running = alive()
        found = sorted(index for index in left if committed(step.out, index, verify=False) is not None)
        yield from found
        left.difference_update(found)
        if not running:
            if not left or not patience:
                return
            patience -= 1
        time.sleep(poll_seconds)


def import_path() -> str:
    """Return a PYTHONPATH with our code first."""
    return os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])])
