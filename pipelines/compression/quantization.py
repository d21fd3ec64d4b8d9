"""Quantizing a model with bitsandbytes, and measuring on held-out text what it lost.

A 4-bit model is saved before its first forward pass, which repacks the weights on a CPU in a way that cannot be saved,
and with double quantization, without which the same weights do not come back. What is measured is the model as loaded
from the published files.
"""

import math
import shutil
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import BitsAndBytesConfig

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.progress import track
from pipelines.artifacts.stage import Metrics
from pipelines.compression.quantize import QuantizeConfig
from pipelines.evaluation.intervals import Interval, bootstrap_mean
from pipelines.evaluation.scores import Score, write_scores
from pipelines.finetuning.contract import Contract, check, stamp
from pipelines.models.loading import load_model, no_bars
from pipelines.tokens.loader import TokenShards

TASK, WEIGHTS = "heldout", "weights"
MADE_HERE = ("config.json", "contract.json")


@dataclass
class Windows:
    """What each window says of the two models: mean loss of either in nats, and how often their first choices agree."""

    before: list[float]
    after: list[float]
    agreement: list[float]


def quantized(config: QuantizeConfig, source: Path, heldout: Path, out: Path) -> Metrics:
    """Write `model/` and `scores/`; raise StageFailed where the model does not come back as it was saved."""
    contract = check(source)
    shards = TokenShards(heldout)
    starts, length = _windows(config, contract, shards)
    first = _batch(config, shards, starts[: config.batch_windows], length)
    model = load_model(
        source, dtype=getattr(torch, config.dtype), device=config.device, quantization=bitsandbytes_config(config)
    )
    save(model, source, out / "model", contract)
    fresh = _loss(model, first)
    del model
    model = load_model(out / "model", device=config.device)
    _loss(model, first)  # the pass after which a badly packed model differs
    reload_difference = max(abs(a - b) for a, b in zip(fresh, _loss(model, first), strict=True))
    if not reload_difference <= config.reload_bound:
        raise StageFailed(
            f"quantize: reloading the {config.bits}-bit model changed its loss by {reload_difference:.4g} nats, more "
            f"than {config.reload_bound:g}; take other bits or another version of bitsandbytes"
        )
    reference = load_model(source, dtype=torch.float32, device=config.device)
    groups = range(0, len(starts), config.batch_windows)
    batches = (_batch(config, shards, starts[group : group + config.batch_windows], length) for group in groups)
    with_bar = track(batches, "quantize: held-out text", total=len(groups), unit="batches")
    windows = _compare(reference, model, with_bar)
    sizes = _sizes(reference, out / "model")
    scores = _scores(config, windows, sizes, reload_difference)
    write_scores(out / "scores" / "scores.json", out, scores, bits=config.bits, sizes=sizes)
    figures = {score.name: score.value for score in scores}
    return {**figures, "bits": float(config.bits), "weight_bytes": float(sizes["weight_bytes"])}


def bitsandbytes_config(config: QuantizeConfig) -> BitsAndBytesConfig:
    """Return how bitsandbytes is to quantize the linear layers; embedding and output layer stay as they are."""
    settings: dict[str, Any] = {"load_in_8bit": True, "llm_int8_threshold": config.outlier_threshold}
    if config.bits == 4:
        settings = {
            "load_in_4bit": True,
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": getattr(torch, config.dtype),
        }
    return BitsAndBytesConfig(**settings)  # type: ignore[no-untyped-call]


def save(model: Any, source: Path, folder: Path, contract: Contract) -> None:
    """Write the model with the tokenizer, template and generation config of its source under the same contract."""
    with no_bars():
        model.save_pretrained(folder)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".jinja") and file.name not in MADE_HERE and ".index." not in file.name:
            shutil.copyfile(file, folder / file.name)
    if stamp(folder) != contract:
        raise StageFailed(f"quantize: {folder} does not keep the contract of {source}")


def _windows(config: QuantizeConfig, contract: Contract, shards: TokenShards) -> tuple[list[int], int]:
    """Return where the windows start, spread evenly over the held-out text, and how many tokens each has."""
    if shards.tokenizer_digest != contract.tokenizer:
        raise UserError(
            f"heldout: {shards.folder} was made by tokenizer {shards.tokenizer_digest[:12]}, the model reads "
            f"{contract.tokenizer[:12]}; shard the text with the model's tokenizer"
        )
    length = min(config.window_tokens, contract.max_length)
    fitting = shards.tokens // length
    if fitting < 2:
        raise UserError(
            f"window_tokens: two windows of {length:,} do not fit the {shards.tokens:,} held-out tokens; "
            "make it shorter or hold out more text"
        )
    count = min(config.windows, fitting)
    return [index * fitting // count * length for index in range(count)], length


def _batch(config: QuantizeConfig, shards: TokenShards, starts: list[int], length: int) -> Tensor:
    """Return the windows [windows, tokens] that start there."""
    rows = np.stack([shards.window(start, length) for start in starts])
    return torch.from_numpy(rows.astype(np.int64)).to(config.device)


@torch.inference_mode()
def _predict(model: Any, ids_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean loss of each window [B] and the likeliest next tokens [B, T-1]."""
    logits_BTV = model(input_ids=ids_BT, use_cache=False).logits[:, :-1].float()
    loss = torch.nn.functional.cross_entropy(logits_BTV.transpose(1, 2), ids_BT[:, 1:], reduction="none")
    return loss.double().mean(1), logits_BTV.argmax(-1)


def _loss(model: Any, ids_BT: Tensor) -> list[float]:
    losses: list[float] = _predict(model, ids_BT)[0].tolist()
    return losses


def _compare(reference: Any, model: Any, batches: Iterable[Tensor]) -> Windows:
    """Return what every window says of the two models."""
    windows = Windows([], [], [])
    for ids_BT in batches:
        before, expected = _predict(reference, ids_BT)
        after, chosen = _predict(model, ids_BT)
        windows.before += before.tolist()
        windows.after += after.tolist()
        windows.agreement += (expected == chosen).double().mean(1).tolist()
    if not all(map(math.isfinite, windows.before + windows.after)):
        raise StageFailed("quantize: a loss on held-out text is not finite; check the source model's weights")
    return windows


def _sizes(reference: Any, folder: Path) -> dict[str, int]:
    """Return bytes of the quantized weights and of the source's parameters in 32 and 16 bits, tied ones once."""
    parameters = sum(parameter.numel() for parameter in reference.parameters())
    written = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    return {"weight_bytes": written, "fp32_bytes": 4 * parameters, "bf16_bytes": 2 * parameters}


def _scores(config: QuantizeConfig, windows: Windows, sizes: dict[str, int], reload_difference: float) -> list[Score]:
    """Return the scores; the two perplexities' difference is resampled in pairs, a window at a time."""
    n = len(windows.before)
    scores = []
    for metric, (value, low, high) in (
        ("perplexity_before", map(math.exp, bootstrap_mean(windows.before, seed=config.seed))),
        ("perplexity_after", map(math.exp, bootstrap_mean(windows.after, seed=config.seed))),
        ("perplexity_difference", perplexity_difference(windows.before, windows.after, seed=config.seed)),
    ):
        scores.append(Score(TASK, metric, value, low, high, n, higher_is_better=False))
    value, low, high = bootstrap_mean(windows.agreement, seed=config.seed)
    scores.append(Score(TASK, "top1_agreement", value, low, high, n, higher_is_better=True))
    for metric, exact in (
        ("ratio_to_fp32", sizes["weight_bytes"] / sizes["fp32_bytes"]),
        ("ratio_to_bf16", sizes["weight_bytes"] / sizes["bf16_bytes"]),
        ("reload_loss_difference", reload_difference),
    ):
        scores.append(Score(WEIGHTS, metric, exact, exact, exact, 1, higher_is_better=False))
    return [_rounded(score) for score in scores]


def perplexity_difference(before: list[float], after: list[float], *, seed: int, resamples: int = 1000) -> Interval:
    """Return perplexity after less perplexity before, with its paired percentile bootstrap interval at 95%."""
    pairs = np.array([before, after])
    rng = np.random.default_rng(seed)
    means = [pairs[:, rng.integers(0, len(before), len(before))].mean(axis=1) for _ in range(resamples)]
    low, high = np.quantile([math.exp(b) - math.exp(a) for a, b in means], [0.025, 0.975])
    first, second = pairs.mean(axis=1)
    return math.exp(second) - math.exp(first), float(low), float(high)


def _rounded(score: Score) -> Score:
    """Return the score to six significant digits: what follows is noise of batch size and threads."""
    value, low, high = (float(f"{figure:.6g}") for figure in (score.value, score.low, score.high))
    return replace(score, value=value, low=low, high=high)
