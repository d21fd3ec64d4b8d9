"""The bridge to lm-eval: a model in a local folder as its `LM`, and one run of its tasks, item by item."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lm_eval import evaluate as run_harness
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window
from transformers import PreTrainedTokenizerFast

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.progress import Meter, meter

SLICE_BATCHES = 4
"""Batches between two steps of the meter; requests with the same context share a forward pass within them."""


class LocalLM(HFLM):  # type: ignore[misc]  # lm-eval has no type marker
    """A causal model and its tokenizer, which reads whatever a task holds as text and starts it with one BOS.

    A document that spells a control token holds its letters, as it does in the token shards.
    """

    writes = True
    """Whether it continues a text."""
    measure = ""
    """What is put before the names of its measures, where they are of no likelihood of a text."""

    def __init__(self, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
        super().__init__(pretrained=model, tokenizer=tokenizer, batch_size=batch_size, softmax_dtype="float32")
        self.truncated = 0
        """Requests whose start did not fit into the model and was cut off."""
        self._meter: Meter | None = None

    @contextmanager
    def metered(self, task: str) -> Iterator[None]:
        """Show the sequences of `task` as they are scored."""
        with meter(f"evaluate {task}", unit="sequences") as counter:
            self._meter = counter
            try:
                yield
            finally:
                self._meter = None

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, left_truncate_len: int | None = None, **_: Any
    ) -> list[int]:
        """Return the ids of `string` behind a BOS, or bare where `add_special_tokens` is False."""
        ids: list[int] = self.tokenizer(string, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        ids = ids if add_special_tokens is False else [self.prefix_token_id, *ids]
        return ids[-left_truncate_len:] if left_truncate_len else ids

    def loglikelihood(self, requests: list[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation, and whether it is the likeliest one."""
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each text, read in disjoint windows of the model's length.

        The windows are lm-eval's own; they are scored in one go, longest first, where `HFLM` pads each batch as it
        comes.
        """
        windows, owners = [], []
        for place, request in enumerate(requests):
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length, context_len=1):
                windows.append((None, *make_disjoint_window(window)))
                owners.append(place)
        totals = [0.0] * len(requests)
        for place, (likelihood, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[place] += likelihood
        return totals

    def scored(self, requests: list[Any]) -> list[tuple[float, bool]]:
        """Return what the last ids of each request are worth behind the first, and whether all are likeliest."""
        answers: list[tuple[float, bool]] = super()._loglikelihood_tokens(requests, disable_tqdm=True)
        return answers

    def _loglikelihood_tokens(self, requests: list[Any], disable_tqdm: bool = False, **_: Any) -> list[Any]:
        """Return what each request is worth, the longest computed first, and count them on our meter."""
        longest = max((len(rest) for _, _, rest in requests), default=0)
        if longest > self.max_length:
            raise ValueError(f"an answer of {longest} tokens is longer than the {self.max_length} that the model reads")
        self.truncated += sum(len(context) + len(rest) > self.max_length + 1 for _, context, rest in requests)
        order = sorted(range(len(requests)), key=lambda place: _longest_first(requests[place]))
        answers: list[Any] = [None] * len(requests)
        if self._meter:
            self._meter.total = (self._meter.total or 0) + len(requests)
        size = SLICE_BATCHES * int(self.batch_size)
        for first in range(0, len(order), size):
            places = order[first : first + size]
            found = self.scored([requests[place] for place in places])
            for place, answer in zip(places, found, strict=True):
                answers[place] = answer
            if self._meter:
                self._meter.advance(len(places))
        return answers


def _longest_first(request: tuple[Any, list[int], list[int]]) -> tuple[int, list[int]]:
    ids = request[1] + request[2]
    return -len(ids), ids


def load_tokenizer(folder: Path) -> PreTrainedTokenizerFast:
    """Return the tokenizer in a local model folder; no code of the folder's runs and no hub is asked."""
    tokenizer: PreTrainedTokenizerFast = PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    return tokenizer


@dataclass(frozen=True)
class TaskRun:
    """What a run of one task gave: each item's values by metric, and how a metric is summed up and read."""

    rows: list[dict[str, Any]]
    aggregation: dict[str, Callable[[list[Any]], float]]
    higher_is_better: dict[str, bool]


def run_tasks(
    lm: LocalLM, name: str, loaded: Any, *, limit: int | None, few_shot: int | None, seed: int
) -> dict[str, TaskRun]:
    """Run the tasks that `TaskManager.load` gave for `name` and return their items; raise StageFailed naming it.

    `few_shot` is as in `simple_evaluate`: a task that forbids solved examples keeps to none.
    """
    for task in loaded["tasks"].values():
        own = task.get_config("num_fewshot")
        if few_shot is not None and own != 0:
            task.set_config(key="num_fewshot", value=few_shot)
        elif own is None:
            task.set_config(key="num_fewshot", value=0)
        task.set_fewshot_seed(seed=seed)
    try:
        with lm.metered(name):
            results = run_harness(lm=lm, task_dict=loaded, limit=limit, bootstrap_iters=0, log_samples=True)
    except Exception as error:
        raise StageFailed(f"evaluate: task {name} failed ({type(error).__name__}: {error})") from error
    return {
        task: TaskRun(rows, loaded["tasks"][task].aggregation(), results["higher_is_better"][task])
        for task, rows in results["samples"].items()
    }
