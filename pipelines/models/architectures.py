"""The architectures as rows of one table: what transformers is told of each, and what it is counted by, without torch.

A row names a model type of transformers and says how it differs from the commonest block: grouped attention, a gated
feed-forward of three matrices, norms of one vector, no biases, rotary positions.
"""

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, WithJsonSchema

from pipelines.models.sizes import Size

Kind = Literal["causal"]
"""What a model reads to predict a token: what stands before it."""


@dataclass(frozen=True)
class Experts:
    """How many feed-forwards a block has and how many of them each token goes through.

    They are narrower by the second number, so that a token costs as much as in a block with one.
    """

    number: int
    chosen: int


def _nothing(size: Size) -> dict[str, Any]:
    return {}


@dataclass(frozen=True)
class Architecture:
    """How a size becomes a model of transformers, and which weights that model has."""

    model_type: str
    """The name that transformers' AutoConfig knows it by."""
    kind: Kind = "causal"
    settings: Callable[[Size], dict[str, Any]] = _nothing
    """What transformers' config needs beside the sizes that most of them name alike."""
    grouped: bool = True
    """Keys and values have heads of their own number; else as many as the queries."""
    gated: bool = True
    """The feed-forward has three matrices of the size's width, as in SwiGLU; else two, of four times the model's."""
    biased: bool = False
    """The matrices of a block have biases."""
    shifted_norms: bool = False
    """Norms have two vectors, a scale and a shift; else a scale."""
    qk_norm: bool = False
    """Each head's queries and keys are normalised, by vectors that the heads share."""
    learned_positions: bool = False
    """Positions are vectors of a table; else rotary."""
    experts: Experts | None = None
    """The feed-forward is a mixture of experts."""
    attention_dropout: bool = True
    """The option `attention_dropout` works."""
    whole_chain: bool = False
    """Fine-tuning, quantization, packaging and serving are tested with it."""

    def d_ff(self, size: Size) -> int:
        """Return the width of the feed-forward, of one expert's in a mixture."""
        width = size.d_ff if self.gated else 4 * size.d_model
        return width // self.experts.chosen if self.experts else width


ARCHITECTURES: dict[str, Architecture] = {
    "llama": Architecture("llama", whole_chain=True),
    "qwen3": Architecture("qwen3", qk_norm=True),
    "mixtral": Architecture(
        "mixtral",
        settings=lambda size: {"num_local_experts": 8, "num_experts_per_tok": 2},
        experts=Experts(number=8, chosen=2),
    ),
    "qwen3_moe": Architecture(
        "qwen3_moe",
        settings=lambda size: {
            "num_experts": 16,
            "num_experts_per_tok": 4,
            "moe_intermediate_size": size.d_ff // 4,
            "norm_topk_prob": True,
        },
        qk_norm=True,
        experts=Experts(number=16, chosen=4),
    ),
    "gpt2": Architecture(
        "gpt2",
        settings=lambda size: {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
        grouped=False,
        gated=False,
        biased=True,
        shifted_norms=True,
        learned_positions=True,
        attention_dropout=False,
    ),
}


def known_architecture(name: str) -> str:
    """Return the name of a row; raise ValueError with the nearest one, or all, where there is none."""
    if name in ARCHITECTURES:
        return name
    near = get_close_matches(name, ARCHITECTURES, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(ARCHITECTURES)}"
    raise ValueError(f"there is no architecture of this name; {hint}")


ArchitectureName = Annotated[
    str, AfterValidator(known_architecture), WithJsonSchema({"type": "string", "enum": list(ARCHITECTURES)})
]
"""The name of a row, as a field of a config."""
