"""A process that has imported everything, and forks a child for every run that SIGKILL shall end."""

import json
import os
import signal
import sys
from pathlib import Path

from pipelines.pretraining import causal_lm
from pipelines.pretraining.causal_lm import train_base
from pipelines.pretraining.loop import Batch
from pipelines.pretraining.pretrain import PretrainConfig


def train_until_killed(job: dict[str, str]) -> None:
    """Train by the job's config and end by SIGKILL when the batch of its step is asked for."""
    whole, last = causal_lm.NextToken.batch, int(job["step"])

    def killing(self: causal_lm.NextToken, step: int) -> Batch:
        if step == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return whole(self, step)

    causal_lm.NextToken.batch = killing  # type: ignore[method-assign]
    config = PretrainConfig.model_validate_json(job["config"])
    train_base(config, *(Path(job[name]) for name in ("train", "heldout", "tokenizer", "out")))


for line in sys.stdin:
    child = os.fork()
    if not child:
        train_until_killed(json.loads(line))
        os._exit(0)
    print(os.waitpid(child, 0)[1], flush=True)
