"""Compiling a function to machine code by numba, kept on disk where a folder can be written."""

from collections.abc import Callable
from typing import TypeVar, cast

from numba import njit

F = TypeVar("F", bound=Callable[..., object])


def kernel(function: F) -> F:
    """Return `function` compiled at its first call; it runs without the GIL, so threads run it side by side.

    Numba keeps the code beside the source, or in the user's cache folder where that cannot be written, or nowhere.
    """
    try:
        return cast(F, njit(nogil=True, cache=True)(function))
    except RuntimeError:  # no folder can be written: it is compiled in every process
        return cast(F, njit(nogil=True)(function))
