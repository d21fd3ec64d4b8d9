"""The stage `package`: model, quantized forms and cards as one folder that can be served, copied and checked."""

from pathlib import Path
from typing import ClassVar, Literal

from pydantic import ConfigDict, Field

from pipelines.artifacts.stage import Metrics, Stage, StageConfig


class PackageConfig(StageConfig):
    """What the bundle is called and what it holds."""

    model_config = ConfigDict(title="Bundle")
    runtime: ClassVar[frozenset[str]] = frozenset({"device"})

    name: str = Field(
        "gristmill", pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="Name that clients of the server ask for"
    )
    dtype: Literal["bfloat16", "float32"] = Field("bfloat16", description="Type of the full-precision weights")
    default_precision: Literal["full", "int8", "int4"] = Field(
        "full", description="Precision that is served where none is named"
    )
    language: str = Field("en", pattern=r"^[a-z]{2,3}$", description="Language of the corpus, for the cards")
    licence: str = Field(
        "unknown", pattern=r"^[a-z0-9.+-]{2,64}$", description="Licence of the weights, by the hub's identifier"
    )
    data_licence: str = Field(
        "unknown", min_length=2, max_length=500, description="What is known of the licences of the sources"
    )
    trial_prompt: str = Field(
        "What does it do?", min_length=1, max_length=200, description="Prompt of the load-back check"
    )
    trial_tokens: int = Field(8, ge=1, le=256, description="Tokens that the load-back check generates")
    device: str = Field("cpu", pattern=r"^(cpu|cuda(:\d+)?)$", description="Where the load-back check runs")


def package(
    config: PackageConfig,
    *,
    model: Path,
    int8: Path | None = None,
    int4: Path | None = None,
    scores: Path | None = None,
    out: Path,
) -> Metrics:
    """Write the bundle, then open it as a server would and generate text in every precision it holds."""
    from pipelines.serving.packaging import packaged

    return packaged(config, model, {"int8": int8, "int4": int4}, scores, out)


PACKAGE = Stage("package", version=1, run=package, libraries=("bitsandbytes", "torch", "transformers"), lineage=True)
