import torch

from pipelines.pretraining.peak import matmul_peak


def test_the_peak_of_this_machine_is_that_of_a_computer() -> None:
    assert 1e8 < matmul_peak("cpu", torch.float32) < 1e15
