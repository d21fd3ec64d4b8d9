"""What a size costs in parameters and operations in each architecture, by the table alone."""

from pipelines.models.architectures import ARCHITECTURES, Architecture
from pipelines.models.sizes import SIZES, Size, SizeName


def count_parameters(size: SizeName, vocab_size: int, *, architecture: str = "llama", max_length: int = 0) -> int:
    """Return how many weights the model has; the tied vectors of the vocabulary count once.

    `max_length` matters where positions are learned.
    """
    kind, row = ARCHITECTURES[architecture], SIZES[size]
    norm = _norm(kind, row)
    positions = max_length * row.d_model if kind.learned_positions else 0
    blocks = row.n_layer * (_matrices(kind, row) + _idle(kind, row) + _biases(kind, row) + _block_norms(kind, row))
    return vocab_size * row.d_model + positions + blocks + norm


def flops_per_token(size: SizeName, vocab_size: int, sequence_length: int, *, architecture: str = "llama") -> int:
    """Return the operations of one training token, forward and backward: 6 a matrix weight, and causal attention.

    The count of Chowdhery et al., "PaLM" (2022), appendix B, with half of the attention since it is causal; looking
    up the input vectors costs nothing.
    """
    kind, row = ARCHITECTURES[architecture], SIZES[size]
    matrices = vocab_size * row.d_model + row.n_layer * _matrices(kind, row)
    attention = 6 * row.n_layer * row.d_model * sequence_length
    return 6 * matrices + attention


def _matrices(kind: Architecture, row: Size) -> int:
    """Return the weights of the matrices that a token meets in a block: of attention, feed-forward and router."""
    attention = 2 * row.d_model * row.d_model + 2 * row.d_model * _keys(kind, row)
    if kind.experts is None:
        return attention + _feed_forward(kind, row)
    return attention + kind.experts.chosen * _feed_forward(kind, row) + kind.experts.number * row.d_model


def _idle(kind: Architecture, row: Size) -> int:
    """Return the weights of the experts that a token does not meet in a block."""
    return (kind.experts.number - kind.experts.chosen) * _feed_forward(kind, row) if kind.experts else 0


def _feed_forward(kind: Architecture, row: Size) -> int:
    """Return the weights of the matrices of one feed-forward."""
    return (3 if kind.gated else 2) * row.d_model * kind.d_ff(row)


def _keys(kind: Architecture, row: Size) -> int:
    """Return how wide the keys of all heads are together."""
    return (row.n_kv_head if kind.grouped else row.n_head) * row.head_dim


def _biases(kind: Architecture, row: Size) -> int:
    if not kind.biased:
        return 0
    return 2 * row.d_model + 2 * _keys(kind, row) + kind.d_ff(row) + row.d_model


def _norm(kind: Architecture, row: Size) -> int:
    return (2 if kind.shifted_norms else 1) * row.d_model


def _block_norms(kind: Architecture, row: Size) -> int:
    return 2 * _norm(kind, row) + (2 * row.head_dim if kind.qk_norm else 0)
