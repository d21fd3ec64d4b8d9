"""A model that fills gaps as lm-eval's `LM`: a text's score is what its tokens are worth where their span is left out.

Each token is left out once, in spans as long and as far from each other as in training, so a text costs as many forward
passes as one over the share of tokens that was left out. The marks around spans are given, and count nothing.
"""

import math
from collections.abc import Callable, Mapping
from itertools import islice
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from pipelines.evaluation.harness import LocalLM
from pipelines.evaluation.likelihoods import likelihoods
from pipelines.pretraining.infilling import Blanks, infilled
from pipelines.pretraining.losses import PAD, decoded
from pipelines.pretraining.objectives import SENTINELS
from pipelines.pretraining.spans import END, Sentinels

Request = tuple[Any, list[int], list[int]]
Gaps = tuple[list[int], list[bool]]
"""Ids, and which of them are left out."""

FILLED: Mapping[str, tuple[Callable[[int], Any], Callable[[Any, Tensor, Tensor], Tensor]]] = {
    "span_corruption": (Sentinels, decoded),
    "blank_infilling": (Blanks, infilled),
}
"""By objective: how spans are left out, by the first id behind the tokenizer's, and the states before their tokens."""


class GapLM(LocalLM):
    """A model that fills gaps, and its tokenizer; it continues no text."""

    writes = False
    measure = "span_"

    def __init__(
        self, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, batch_size: int, objective: dict[str, Any]
    ) -> None:
        super().__init__(model, tokenizer, batch_size)
        layout, self.states = FILLED[objective["name"]]
        self.first_id = int(objective["first_id"])
        self.leave_out = layout(self.first_id)
        self.span, self.passes = math.ceil(objective["span_length"]), math.ceil(1 / objective["mask_share"])

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return what the tokens of each text are worth, read in disjoint windows behind a BOS each."""
        texts = [self.gaps(request.args[0]) for request in requests]
        filled = iter(self._filled([row for text in texts for row in text]))
        return [sum(likelihood for likelihood, _ in islice(filled, len(text))) for text in texts]

    def gaps(self, text: str) -> list[Gaps]:
        """Return the windows of a text, each as often as it takes to leave out each of its tokens once."""
        ids = self.tok_encode(text, add_special_tokens=False)
        length = min(self.max_length - 1, SENTINELS * self.span * self.passes)
        rows = []
        for start in range(0, len(ids), length):
            window = ids[start : start + length]
            turns = np.arange(len(window)) // self.span % self.passes
            rows += [([self.prefix_token_id, *window], [False, *(turns == turn).tolist()]) for turn in np.unique(turns)]
        return rows

    def _loglikelihood_tokens(self, requests: list[Request], disable_tqdm: bool = False, **_: Any) -> list[Any]:
        """Return for each request what its last ids are worth as one span, and whether all are likeliest."""
        self.truncated += sum(len(context) + len(rest) > self.max_length for _, context, rest in requests)
        rows = [
            ((context + rest)[-self.max_length :], ([False] * len(context) + [True] * len(rest))[-self.max_length :])
            for _, context, rest in requests
        ]
        return self._filled(rows)

    @torch.inference_mode()
    def _filled(self, rows: list[Gaps]) -> list[tuple[float, bool]]:
        """Return what the tokens that each row lacks are worth, and whether all of them are likeliest."""
        found: list[tuple[float, bool]] = []
        if self._meter:
            self._meter.total = (self._meter.total or 0) + len(rows)
        for start in range(0, len(rows), int(self.batch_size)):
            batch = rows[start : start + int(self.batch_size)]
            longest = max(len(ids) for ids, _ in batch)
            ids_BS = np.array([ids + [PAD] * (longest - len(ids)) for ids, _ in batch])
            hidden_BS = np.array([hidden + [False] * (longest - len(hidden)) for _, hidden in batch])
            inputs, targets_BT = (part.to(self.device) for part in self.leave_out(ids_BS, hidden_BS))
            text_BT = (targets_BT >= 0) & (targets_BT < self.first_id) & (targets_BT != END)
            states = self.states(self.model, inputs, targets_BT)
            found += likelihoods(self.model, states, targets_BT, text_BT)
            if self._meter:
                self._meter.advance(len(batch))
        return found
