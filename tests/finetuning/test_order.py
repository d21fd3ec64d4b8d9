"""The order of the examples is random, full and short of padding."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from pipelines.finetuning.order import draw_order


@given(
    lengths=st.lists(st.integers(1, 300), min_size=1, max_size=200),
    batch=st.integers(1, 16),
    steps=st.integers(1, 40),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_batch_is_full_and_every_row_comes_equally_often(
    lengths: list[int], batch: int, steps: int, seed: int
) -> None:
    order = draw_order(lengths, batch, steps, seed)
    assert len(order) == steps * batch
    times = Counter(order)
    assert max(times.values()) - min(times[row] for row in range(len(lengths))) <= 1
    assert order == draw_order(lengths, batch, steps, seed)


def test_rows_of_like_length_share_a_batch_and_batches_come_in_no_order() -> None:
    lengths = [1 + (37 * row) % 256 for row in range(1024)]
    order = draw_order(lengths, 16, 64, seed=3)
    batches = [[lengths[row] for row in order[start : start + 16]] for start in range(0, 1024, 16)]
    padding = sum(max(batch) * 16 - sum(batch) for batch in batches)
    assert padding < 0.1 * sum(lengths)
    longest = [max(batch) for batch in batches]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))
    assert order != draw_order(lengths, 16, 64, seed=4)
