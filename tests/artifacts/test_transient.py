import errno
import socket

import aiohttp
import httpx
import pytest

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.transient import is_transient


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError("gone"), TimeoutError("late"), socket.gaierror(-3, "no name"),
        OSError(errno.ESTALE, "stale file handle"), OSError(errno.ENETUNREACH, "no network"),
        httpx.ConnectError("refused"), httpx.ReadTimeout("late"), aiohttp.ServerDisconnectedError(),
    ],
)  # fmt: skip
def test_a_fault_of_the_network_may_be_over_at_the_next_try(error: Exception) -> None:
    assert is_transient(error)
    try:
        raise StageFailed("ingest: it broke off") from error
    except StageFailed as told:
        assert is_transient(told)


@pytest.mark.parametrize(
    "error",
    [ValueError("wrong"), MemoryError(), OSError(errno.ENOSPC, "full"), FileNotFoundError("x"), StageFailed("burst")],
)
def test_another_fault_comes_again(error: Exception) -> None:
    assert not is_transient(error)
