"""The model in a folder as lm-eval's `LM`, of the kind that its config names."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSeq2SeqLM

from pipelines.artifacts.errors import UserError
from pipelines.evaluation.gap_lm import FILLED, GapLM
from pipelines.evaluation.harness import LocalLM, load_tokenizer
from pipelines.evaluation.masked_lm import MaskedLM
from pipelines.evaluation.prefix_lm import PrefixLM
from pipelines.models.loading import load_model

KINDS = {"ForMaskedLM": AutoModelForMaskedLM, "ForConditionalGeneration": AutoModelForSeq2SeqLM}
"""The classes of transformers that load a model, by how its class's name ends."""


def load_lm(folder: Path, *, device: str, dtype: str, batch_size: int) -> LocalLM:
    """Return the model in a local folder, from safetensors alone, ready to be scored."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device: {device!r} is not there; set device=cpu")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    classes = config.get("architectures") or []
    kind = next((kind for end, kind in KINDS.items() for name in classes if name.endswith(end)), AutoModelForCausalLM)
    objective = config.get("pretraining_objective", {})
    learnt = objective.get("name")
    if kind is AutoModelForSeq2SeqLM and learnt not in FILLED:
        raise UserError(f"{folder}: its config.json names no objective that we know; evaluate a model of `pretrain`")
    model = load_model(folder, kind=kind, dtype=getattr(torch, dtype), device=device)
    if learnt in FILLED:
        return GapLM(model, load_tokenizer(folder), batch_size, objective)
    own = MaskedLM if kind is AutoModelForMaskedLM else PrefixLM if learnt == "prefix_lm" else LocalLM
    return own(model, load_tokenizer(folder), batch_size)
