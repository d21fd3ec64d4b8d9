"""The model in a folder as lm-eval's `LM`, of the kind that its config names."""

import json
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM

from pipelines.artifacts.errors import UserError
from pipelines.evaluation.harness import LocalLM, load_tokenizer
from pipelines.evaluation.masked_lm import MaskedLM
from pipelines.models.loading import load_model


def load_lm(folder: Path, *, device: str, dtype: str, batch_size: int) -> LocalLM:
    """Return the model in a local folder, from safetensors alone, ready to be scored."""
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(f"device: {device!r} is not there; set device=cpu")
    classes = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("architectures") or []
    masked = any(name.endswith("ForMaskedLM") for name in classes)
    kind = AutoModelForMaskedLM if masked else AutoModelForCausalLM
    model = load_model(folder, kind=kind, dtype=getattr(torch, dtype), device=device)
    return (MaskedLM if masked else LocalLM)(model, load_tokenizer(folder), batch_size)
