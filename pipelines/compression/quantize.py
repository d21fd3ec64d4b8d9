"""The stage `quantize`: a model's linear layers in 8 or 4 bits, and what that costs on held-out text."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class QuantizeConfig(StageConfig):
    """How far to shrink a model, and how to measure the loss."""

    model_config = ConfigDict(title="Quantization")
    runtime: ClassVar[frozenset[str]] = frozenset({"device"})

    bits: Literal[8, 4] = Field(8, description="8: LLM.int8 (Dettmers 2022); 4: NF4 with double quantization (QLoRA)")
    dtype: Literal["bfloat16", "float32"] = Field(
        "bfloat16", description="Type of what is not quantized: embedding, norms and output layer"
    )
    outlier_threshold: float = Field(
        6.0, ge=0, le=1000, description="8 bits: activations beyond it are multiplied in 16 bits; 0 turns that off"
    )
    windows: int = Field(64, ge=2, le=100_000, description="Held-out windows that perplexity is measured on")
    window_tokens: int = Field(
        256, ge=8, le=131_072, description="Tokens of a window; the model's maximum length where that is shorter"
    )
    reload_bound: float = Field(
        0.001, gt=0, le=1, description="Largest difference in mean loss, in nats, that reloading may make"
    )
    seed: int = Field(0, ge=0, le=2**32 - 1, description="Seed of the bootstrap of the intervals")
    batch_windows: int = Field(
        4, ge=1, le=1024, description="Windows in one forward pass; 8 bits finds its outliers in a whole batch"
    )
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where to quantize and measure")


def quantize(config: QuantizeConfig, *, model: Path, heldout: Path, out: Path) -> Metrics:
    """Write the quantized model, checked by loading it back, and its scores against the one it came from."""
    from pipelines.compression.quantization import quantized

    return quantized(config, model, heldout, out)


QUANTIZE = Stage("quantize", version=1, run=quantize, libraries=("bitsandbytes", "numpy", "torch", "transformers"))
