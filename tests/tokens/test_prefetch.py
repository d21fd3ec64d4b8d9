import gc
import threading
import time

import pytest

from pipelines.tokens.prefetch import AHEAD, Prefetched


def threads() -> int:
    return sum(thread.name.startswith("prefetch") for thread in threading.enumerate())


def test_what_comes_back_is_what_is_read_in_any_order() -> None:
    ahead = Prefetched(lambda number: number * number)
    asked = [0, 1, 2, 3, 10, 11, 4, 4, 5, 0]
    assert [ahead(number) for number in asked] == [number * number for number in asked]
    ahead.close()


def test_no_more_than_the_bound_is_read_ahead() -> None:
    read: list[int] = []
    ahead = Prefetched(read.append)
    ahead(5)
    ahead.close()
    assert read[0] == 5 and set(read) <= set(range(5, 5 + 1 + AHEAD))


def test_an_error_is_raised_where_its_number_is_asked_for() -> None:
    def read(number: int) -> int:
        if number == 2:
            raise OSError("the disk is gone")
        return number

    ahead = Prefetched(read)
    assert [ahead(0), ahead(1)] == [0, 1]
    with pytest.raises(OSError, match="the disk is gone"):
        ahead(2)
    assert ahead(3) == 3
    ahead.close()


def test_the_thread_ends_with_its_owner() -> None:
    ahead = Prefetched(lambda number: number)
    ahead(0)
    assert threads() >= 1
    before = threads()
    del ahead
    gc.collect()
    for _ in range(500):
        if threads() < before:
            return
        time.sleep(0.01)
    raise AssertionError("the thread goes on")
