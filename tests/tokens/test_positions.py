import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers.masking_utils import find_packed_sequence_indices

from pipelines.tokens.positions import BOS_ID, document_positions


@given(rows=st.lists(st.lists(st.sampled_from([BOS_ID, 7, 8]), min_size=12, max_size=12), min_size=1, max_size=4))
def test_positions_restart_at_each_document(rows: list[list[int]]) -> None:
    found = document_positions(torch.tensor(rows)).tolist()
    for ids, positions in zip(rows, found, strict=True):
        expected = -1
        for token, position in zip(ids, positions, strict=True):
            expected = 0 if token == BOS_ID else expected + 1
            assert position == expected


def test_transformers_reads_each_document_as_a_sequence_of_its_own() -> None:
    ids = torch.tensor([[5, 6, BOS_ID, 7, BOS_ID, BOS_ID, 9], [BOS_ID, 7, 7, 7, 7, 7, 7]])
    packed = find_packed_sequence_indices(document_positions(ids))
    assert packed is not None
    assert packed.tolist() == [[0, 0, 1, 1, 2, 3, 3], [0] * 7]
