"""What the harness and its libraries see while they run: no bars of their own, no network, no cache of the user's."""

import logging
import os
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.constants
import lm_eval.api.task
from transformers.utils import logging as transformers_logging

CHATTER = ("lm_eval", "datasets", "transformers", "torchao", "torch.utils._pytree")
OFFLINE = ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE")


@contextmanager
def quiet() -> Iterator[None]:
    """Keep bars and notices of lm-eval, datasets and transformers from the terminal."""
    with ExitStack() as stack:
        # build_all_requests draws a bar that no argument switches off
        stack.enter_context(replaced(lm_eval.api.task, "tqdm", partial(lm_eval.api.task.tqdm, disable=True)))
        for name in CHATTER:
            logger = logging.getLogger(name)
            stack.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.ERROR)
        if not datasets.are_progress_bars_disabled():
            stack.callback(datasets.enable_progress_bars)
            datasets.disable_progress_bars()
        if transformers_logging.is_progress_bar_enabled():
            stack.callback(transformers_logging.enable_progress_bar)
            transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
        yield


@contextmanager
def offline() -> Iterator[None]:
    """Refuse every call to the hub; the libraries read the environment at import, so their constants are set too."""
    with ExitStack() as stack:
        for name in OFFLINE:
            stack.enter_context(variable(name, "1"))
        for module in (huggingface_hub.constants, datasets.config):
            stack.enter_context(replaced(module, "HF_HUB_OFFLINE", True))
        stack.enter_context(replaced(datasets.config, "HF_DATASETS_OFFLINE", True))
        yield


@contextmanager
def data_sets(cache: Path, mirror: Path | None) -> Iterator[None]:
    """Prepare data sets below `cache`, and read them from `mirror` by their ids on the hub where one is given.

    A data set's id is a path in the working directory before it is a name on the hub, which is how the official tasks
    find the mirror.
    """
    with ExitStack() as stack:
        stack.enter_context(replaced(datasets.config, "HF_DATASETS_CACHE", cache))
        if mirror is not None:
            stack.enter_context(offline())
            stack.enter_context(chdir(mirror))
        yield


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    """Set an attribute until the block ends."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def variable(name: str, value: str) -> Iterator[None]:
    """Set an environment variable until the block ends."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before
