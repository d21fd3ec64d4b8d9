"""What a size costs in parameters and operations in each architecture, by the table alone."""

from pipelines.models.architectures import ARCHITECTURES, Architecture
from pipelines.models.sizes import SIZES, Size, SizeName


def count_parameters(
    size: SizeName, vocab_size: int, *, architecture: str = "llama", max_length: int = 0, tied: bool = True
) -> int:
    """Return how many weights the model has; vectors of the vocabulary that are tied count once.

    `max_length` matters where positions are learned.
    """
    kind, row = ARCHITECTURES[architecture], SIZES[size]
    norm = _norm(kind, row) if kind.final_norm else 0
    positions = max_length * row.d_model if kind.learned_positions else 0
    blocks = row.n_layer * (_matrices(kind, row) + _idle(kind, row) + _biases(kind, row) + _block_norms(kind, row))
    vectors = (1 if tied else 2) * vocab_size * row.d_model
    others = vectors + positions + _head(kind, row) + kind.more(row, vocab_size)
    if kind.kind == "seq2seq":
        return others + 2 * (blocks + norm) + row.n_layer * (4 * row.d_model * row.d_model + _norm(kind, row))
    return others + blocks + norm


def flops_per_token(
    size: SizeName,
    vocab_size: int,
    sequence_length: int,
    *,
    architecture: str = "llama",
    predicted: float = 1.0,
    computed: float = 1.0,
) -> int:
    """Return the operations of one training token that is read, forward and backward: 6 a matrix weight, and attention.

    The count of Chowdhery et al., "PaLM" (2022), appendix B, with half of the attention where it is causal; looking
    up the input vectors costs nothing. `predicted` is the share of the tokens that scores are computed for, `computed`
    that of those that go through the blocks. Of an encoder and a decoder the latter is the encoder's, and the former
    the decoder's, whose tokens look at all of the encoder's.
    """
    kind, row = ARCHITECTURES[architecture], SIZES[size]
    if kind.kind == "seq2seq":
        square = row.d_model * row.d_model
        encoder = row.n_layer * (_matrices(kind, row) + 2 * square)  # the decoder's keys and values of what it read
        decoder = row.n_layer * (_matrices(kind, row) + 2 * square) + vocab_size * row.d_model
        pairs = computed * computed + predicted * (predicted / 2 + computed)
        attention = 12 * row.d_model * row.n_layer * sequence_length * pairs
        return round(6 * (computed * encoder + predicted * decoder) + attention)
    scores = predicted * (vocab_size * row.d_model + _head(kind, row))
    matrices = computed * row.n_layer * _matrices(kind, row)
    seen = computed * _seen(kind, row, round(computed * sequence_length))
    return round(6 * (matrices + scores) + 12 * row.d_model * seen)


def _seen(kind: Architecture, row: Size, length: int) -> int:
    """Return how many tokens the blocks together look at for one token, on average."""
    if kind.kind == "causal":
        return row.n_layer * length // 2
    wide = -(-row.n_layer // 3) if kind.window else row.n_layer
    return wide * length + (row.n_layer - wide) * min(length, (kind.window or 0) + 1)


def _head(kind: Architecture, row: Size) -> int:
    return row.d_model * row.d_model if kind.head else 0


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
