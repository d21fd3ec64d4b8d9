"""The architectures as rows of one table: what transformers is told of each, and what it is counted by, without torch.

A row names a model type of transformers and says how it differs from the commonest block: grouped attention, a gated
feed-forward of three matrices, norms of one vector, no biases, rotary positions.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, WithJsonSchema

from pipelines.models.sizes import Size
from pipelines.tokens.special import BOS as BOS_TOKEN
from pipelines.tokens.special import END as END_TOKEN
from pipelines.tokens.special import PAD as PAD_TOKEN
from pipelines.tokens.special import SPECIAL_TOKENS

Kind = Literal["causal", "masked", "seq2seq", "blank-filling"]
"""What a model predicts a token from: what is before it, on both sides, read by another stack, or left with gaps."""

BOS, PAD, END = map(SPECIAL_TOKENS.index, (BOS_TOKEN, PAD_TOKEN, END_TOKEN))
DISTANCES = 32
"""Kinds of distances between tokens that T5 tells apart, as in its paper."""


@dataclass(frozen=True)
class Experts:
    """How many feed-forwards a block has and how many of them each token goes through.

    They are narrower by the second number, so that a token costs as much as in a block with one.
    """

    number: int
    chosen: int


def _nothing(size: Size) -> dict[str, Any]:
    return {}


def _none(size: Size, vocab_size: int) -> int:
    return 0


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
    window: int | None = None
    """Two blocks of three look at the so many tokens around each only."""
    final_norm: bool = True
    """The last block is followed by a norm."""
    head: str = ""
    """Where the layers between the last block and the scores are; they hold a matrix of the model's width squared."""
    more: Callable[[Size, int], int] = _none
    """Weights outside the blocks that none of this tells of, by size and vocabulary."""
    truncated: bool = False
    """Matrices are drawn again from a normal distribution cut at two standard deviations."""
    attention_dropout: bool = True
    """The option `attention_dropout` works."""
    whole_chain: bool = False
    """Fine-tuning, quantization, packaging and serving are tested with it."""

    def d_ff(self, size: Size) -> int:
        """Return the width of the feed-forward, of one expert's in a mixture."""
        width = size.d_ff if self.gated else 4 * size.d_model
        return width // self.experts.chosen if self.experts else width


GPT2 = Architecture(
    "gpt2",
    settings=lambda size: {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0},
    grouped=False,
    gated=False,
    biased=True,
    shifted_norms=True,
    learned_positions=True,
    attention_dropout=False,
)

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
    "gpt2": GPT2,
    "glm": replace(GPT2, kind="blank-filling"),
    "bert": Architecture(
        "bert",
        kind="masked",
        settings=lambda size: {"attention_probs_dropout_prob": 0.0, "hidden_dropout_prob": 0.0},
        grouped=False,
        gated=False,
        biased=True,
        shifted_norms=True,
        learned_positions=True,
        final_norm=False,
        head="cls.predictions.transform",
        # Two vectors for kinds of sentences, the norm of the input, bias and norm of the head, a bias a token.
        more=lambda size, vocab_size: 7 * size.d_model + vocab_size,
        truncated=True,
        attention_dropout=False,
    ),
    "modernbert": Architecture(
        "modernbert",
        kind="masked",
        settings=lambda size: {"cls_token_id": BOS, "sep_token_id": END},
        grouped=False,
        window=128,
        head="head",
        # The norms of input and head, less the first block's, which has none before attention, and a bias a token.
        more=lambda size, vocab_size: size.d_model + vocab_size,
    ),
    "t5": Architecture(
        "t5",
        kind="seq2seq",
        settings=lambda size: {
            "num_layers": size.n_layer,
            "num_decoder_layers": size.n_layer,
            "d_ff": 4 * size.d_model,
            "relative_attention_num_buckets": DISTANCES,
            "dropout_rate": 0.0,
            "decoder_start_token_id": PAD,
        },
        grouped=False,
        gated=False,
        # What each head adds to the scores of a distance, in either stack.
        more=lambda size, vocab_size: 2 * DISTANCES * size.n_head,
        attention_dropout=False,
    ),
}


def known_architecture(name: str) -> str:
    """Return the name of a row; raise ValueError with the nearest one, or all, where there is none."""
    return known_in(ARCHITECTURES, "architecture", name)


def known_in(table: Mapping[str, object], what: str, name: str) -> str:
    """Return the name of a row of a table; raise ValueError with the nearest one, or all, where there is none."""
    if name in table:
        return name
    near = get_close_matches(name, table, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(table)}"
    raise ValueError(f"there is no {what} of this name; {hint}")


ArchitectureName = Annotated[
    str, AfterValidator(known_architecture), WithJsonSchema({"type": "string", "enum": list(ARCHITECTURES)})
]
"""The name of a row, as a field of a config."""
