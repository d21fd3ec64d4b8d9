"""A prefix language model as lm-eval's `LM`: what a task shows is the prefix, and its tokens see each other."""

from copy import copy
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast

from pipelines.evaluation.harness import LocalLM
from pipelines.evaluation.likelihoods import likelihoods
from pipelines.pretraining.losses import PAD
from pipelines.pretraining.prefix import prefix_mask

Request = tuple[Any, list[int], list[int]]


class PrefixLM(LocalLM):
    """A prefix language model and its tokenizer; a text alone has a BOS as its prefix, so its bits are a code's."""

    def __init__(self, model: torch.nn.Module, tokenizer: PreTrainedTokenizerFast, batch_size: int) -> None:
        super().__init__(model, tokenizer, batch_size)
        self.masking = copy(self.model.config)
        # What transformers generates from is then seen on both sides as well; each new token sees all before it.
        self.model.config.is_causal = False
        for module in self.model.modules():
            if hasattr(module, "is_causal"):
                module.is_causal = False

    @torch.inference_mode()
    def scored(self, requests: list[Request]) -> list[tuple[float, bool]]:
        """Return what the last ids of each request are worth behind the first, and whether all are likeliest."""
        found: list[tuple[float, bool]] = []
        for start in range(0, len(requests), int(self.batch_size)):
            batch = requests[start : start + int(self.batch_size)]
            rows = [torch.tensor((context + rest)[-self.max_length - 1 :]) for _, context, rest in batch]
            ids_BS = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=PAD).to(self.device)
            ends_B = torch.tensor([len(row) for row in rows], device=self.device)
            lengths_B = ends_B - torch.tensor([len(rest) for _, _, rest in batch], device=self.device)
            places_S = torch.arange(1, ids_BS.shape[1], device=self.device)
            counted_BS = (places_S >= lengths_B[:, None]) & (places_S < ends_B[:, None])
            mask = prefix_mask(self.masking, lengths_B, ids_BS.shape[1] - 1)
            states = self.model.base_model(input_ids=ids_BS[:, :-1], attention_mask=mask, use_cache=False)
            found += likelihoods(self.model, states.last_hidden_state, ids_BS[:, 1:], counted_BS)
        return found
