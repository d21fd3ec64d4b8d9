"""What makes a run repeatable: the states of all random generators of the process, and sums in one order."""

import hashlib
import random
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor


def seed_all(seed: int) -> None:
    """Seed the generators of Python, numpy and torch."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_step(seed: int, step: int, rank: int) -> None:
    """Seed torch for the dropout of a step: a step draws the same however the run came to it, each process its own."""
    digest = hashlib.sha256(f"{seed} {step} {rank}".encode()).digest()
    torch.manual_seed(int.from_bytes(digest[:8], "little"))


@contextmanager
def ordered_sums(device: str) -> Iterator[None]:
    """Have a CPU's threads add up in one order, until the context ends.

    Else the gradients of tokens that several experts were given are added up in the order in which the threads come,
    and two runs of a mixture differ. A GPU sorts them first, and its switch would refuse cuBLAS its workspaces.
    """
    memory: Any = torch.utils.deterministic
    before, fill = torch.are_deterministic_algorithms_enabled(), memory.fill_uninitialized_memory
    if device == "cpu":
        torch.use_deterministic_algorithms(True)
        memory.fill_uninitialized_memory = False  # a pass over all memory, to find faulty kernels
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)
        memory.fill_uninitialized_memory = fill


def rng_tensors() -> dict[str, Tensor]:
    """Return the states of the generators of Python, numpy, torch and each GPU in use."""
    version, words, gauss = random.getstate()
    numpy = np.random.get_state(legacy=True)
    if not isinstance(numpy, tuple):
        raise TypeError("numpy's global generator is not its Mersenne twister")
    _, keys, position, has_gauss, cached = numpy
    states = {
        "python": torch.tensor([version, *words], dtype=torch.int64),
        "python.gauss": torch.tensor([] if gauss is None else [gauss], dtype=torch.float64),
        "numpy": torch.tensor([*keys.tolist(), position, has_gauss], dtype=torch.int64),
        "numpy.gauss": torch.tensor([cached], dtype=torch.float64),
        "torch": torch.get_rng_state(),
    }
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        states |= {f"cuda.{number}": state for number, state in enumerate(torch.cuda.get_rng_state_all())}
    return states


def restore_rng(states: Mapping[str, Tensor]) -> None:
    """Put the generators back into saved states; those that are not named go on as they are."""
    if "python" in states:
        version, *words = states["python"].tolist()
        gauss = states["python.gauss"].tolist()
        random.setstate((version, tuple(words), gauss[0] if gauss else None))
    if "numpy" in states:
        *words, position, has_gauss = states["numpy"].tolist()
        keys = np.array(words, dtype=np.uint32)
        np.random.set_state(("MT19937", keys, position, has_gauss, float(states["numpy.gauss"][0])))
    if "torch" in states:
        torch.set_rng_state(states["torch"])
    gpus = sorted(name for name in states if name.startswith("cuda."))
    if gpus and torch.cuda.is_available():
        torch.cuda.set_rng_state_all([states[name] for name in gpus])
