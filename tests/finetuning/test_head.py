"""The output layer on labelled positions alone is TRL's, only faster."""

from pathlib import Path

import torch
from transformers import AutoModelForCausalLM
from trl.trainer.utils import add_fused_lm_head

from pipelines.finetuning.head import IGNORED, score_labels_only
from tests.finetuning.tiny import build_model


def test_scores_gradients_and_generation_are_those_of_trl(tmp_path: Path) -> None:
    build_model(tmp_path)
    ids = torch.arange(6, 36).reshape(2, 15)
    labels = ids.masked_fill(torch.arange(15) < 9, IGNORED)
    found = []
    for ours in (False, True):
        model = AutoModelForCausalLM.from_pretrained(str(tmp_path)).eval()
        add_fused_lm_head(model, outputs=("log_probs", "entropy", "is_top1"))
        if ours:
            score_labels_only(model)
        outputs = model(input_ids=ids, labels=labels, fused_lm_head=True)
        outputs.log_probs.sum().backward()
        drawn = model.generate(ids, max_new_tokens=4, do_sample=False)
        plain = model(input_ids=ids, labels=labels).loss
        gradients = [weight.grad for weight in model.parameters()]
        found.append(
            (outputs.log_probs, outputs.is_top1.float(), outputs.label_mask, outputs.loss, drawn, plain, gradients)
        )
    torch.testing.assert_close(found[1], found[0])
