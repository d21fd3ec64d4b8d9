"""What a CPU run frees stays with its process while it lasts, and goes back at its end."""

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from pipelines.pretraining.kept_memory import OWN, kept_memory, library

FLOATS = 16 << 20
"""64 MiB, more than glibc keeps by itself."""

pytestmark = pytest.mark.skipif(not hasattr(library, "malloc_trim"), reason="the C library is not glibc")


@pytest.fixture(autouse=True)
def _own_thresholds() -> Iterator[None]:
    for threshold, size in OWN.items():
        library.mallopt(threshold, size)
    yield


def faults_of_a_block() -> int:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(FLOATS)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def test_a_block_that_was_freed_is_taken_again_without_page_faults() -> None:
    outside = min(faults_of_a_block() for _ in range(3))
    with kept_memory("cpu"):
        inside = min(faults_of_a_block() for _ in range(20))  # the first ones find no hole that is aligned as they are
    assert inside * 10 < outside
    assert min(faults_of_a_block() for _ in range(20)) > inside * 10


def test_what_was_kept_goes_back_when_the_run_ends() -> None:
    with pytest.raises(RuntimeError), kept_memory("cpu"):
        torch.ones(4 * FLOATS)
        kept = resident_bytes()
        raise RuntimeError
    assert kept - resident_bytes() > 3 * FLOATS * 4


def test_a_run_on_a_gpu_changes_nothing() -> None:
    with kept_memory("cuda"):
        faults_of_a_block()
        assert faults_of_a_block() > 10
