"""A masked model as lm-eval's `LM`: a text's score is the pseudo-log-likelihood of its tokens.

Each token is hidden in its turn and predicted from all others (Salazar et al., "Masked Language Model Scoring", 2020),
so a text costs a forward pass a token.
"""

from itertools import islice
from typing import Any

import torch
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from pipelines.evaluation.harness import LocalLM
from pipelines.tokens.loader import PAD_ID

Request = tuple[Any, list[int], list[int]]


class MaskedLM(LocalLM):
    """A masked model and its tokenizer; it continues no text."""

    writes = False
    measure = "pseudo_"

    def loglikelihood_rolling(self, requests: list[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the pseudo-log-likelihood of each text, read in disjoint windows behind a BOS each."""
        windows: list[Request] = []
        owners = []
        for place, request in enumerate(requests):
            ids = self.tok_encode(request.args[0], add_special_tokens=False)
            for window in get_rolling_token_windows(ids, self.prefix_token_id, self.max_length - 1, context_len=1):
                windows.append((None, [self.prefix_token_id], make_disjoint_window(window)[1]))
                owners.append(place)
        totals = [0.0] * len(requests)
        for place, (likelihood, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[place] += likelihood
        return totals

    def _loglikelihood_tokens(self, requests: list[Request], disable_tqdm: bool = False, **_: Any) -> list[Any]:
        """Return for each request what its last ids are worth behind the first, and whether all are likeliest."""
        self.truncated += sum(len(context) + len(rest) > self.max_length for _, context, rest in requests)
        if self._meter:
            self._meter.total = (self._meter.total or 0) + len(requests)
        answers = []
        for _, context, rest in requests:
            ids = torch.tensor((context + rest)[-self.max_length :])
            likelihoods, first = self._hidden_in_turn(ids, range(len(ids) - len(rest), len(ids)))
            answers.append((float(likelihoods.sum()), bool(first.all())))
            if self._meter:
                self._meter.advance(1)
        return answers

    @torch.inference_mode()
    def _hidden_in_turn(self, ids_S: torch.Tensor, places: range) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the log-probability of the token at each place, and whether the model puts it first."""
        likelihoods, first = [], []
        left = iter(places)
        while batch := list(islice(left, int(self.batch_size))):
            rows = torch.arange(len(batch))
            inputs_BS = ids_S.repeat(len(batch), 1)
            inputs_BS[rows, batch] = self.model.config.mask_token_id
            # transformers' heads score every place; only one of each row is asked for.
            logits = self.model(
                input_ids=inputs_BS.to(self.device), attention_mask=(inputs_BS != PAD_ID).to(self.device)
            )
            scores_BV = logits.logits[rows, batch].float().log_softmax(-1).cpu()
            likelihoods.append(scores_BV[rows, ids_S[batch]])
            first.append(scores_BV.argmax(-1) == ids_S[batch])
        return torch.cat(likelihoods), torch.cat(first)
