"""The model sizes as rows of one table, and what a row costs in parameters and operations, without torch."""

from dataclasses import dataclass
from typing import Literal

SizeName = Literal["tiny", "smoke", "mini", "demo", "compact", "small", "base"]


@dataclass(frozen=True)
class Size:
    """A Llama: blocks of grouped-query attention and SwiGLU, rotary positions, tied input and output vectors."""

    n_layer: int
    d_model: int
    n_head: int
    n_kv_head: int
    d_ff: int

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.d_model // self.n_head


SIZES: dict[SizeName, Size] = {
    "tiny": Size(n_layer=2, d_model=96, n_head=3, n_kv_head=3, d_ff=256),
    "smoke": Size(n_layer=4, d_model=128, n_head=4, n_kv_head=4, d_ff=384),
    "mini": Size(n_layer=4, d_model=192, n_head=3, n_kv_head=3, d_ff=512),
    "demo": Size(n_layer=6, d_model=256, n_head=4, n_kv_head=4, d_ff=704),
    "compact": Size(n_layer=8, d_model=384, n_head=6, n_kv_head=6, d_ff=1024),
    "small": Size(n_layer=12, d_model=768, n_head=12, n_kv_head=12, d_ff=2048),
    "base": Size(n_layer=16, d_model=2048, n_head=32, n_kv_head=8, d_ff=8192),
}


def count_parameters(size: SizeName, vocab_size: int, *, tied: bool = True) -> int:
    """Return how many weights the model has; vectors of the vocabulary that are tied count once."""
    row = SIZES[size]
    norms = (2 * row.n_layer + 1) * row.d_model
    return (1 if tied else 2) * vocab_size * row.d_model + row.n_layer * _layer_matrices(row) + norms


def flops_per_token(size: SizeName, vocab_size: int, sequence_length: int) -> int:
    """Return the operations of one training token, forward and backward: 6 a matrix weight, and causal attention.

    The count of Chowdhery et al., "PaLM" (2022), appendix B, with half of the attention since it is causal; looking
    up the input vectors costs nothing.
    """
    row = SIZES[size]
    matrices = vocab_size * row.d_model + row.n_layer * _layer_matrices(row)
    attention = 6 * row.n_layer * row.d_model * sequence_length
    return 6 * matrices + attention


def _layer_matrices(row: Size) -> int:
    """Return the weights of one block's matrices: query and output, key and value, and the three of SwiGLU."""
    keys = row.n_kv_head * row.head_dim
    return 2 * row.d_model * row.d_model + 2 * row.d_model * keys + 3 * row.d_model * row.d_ff
