"""How much of the time collectives are under way, seen by torch's profiler."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch.profiler import ProfilerActivity, profile

COLLECTIVES = ("gloo:", "nccl:", "ncclDevKernel")
"""How the names of their spans begin: on the host, and on a GPU."""


@dataclass
class Share:
    """What a profiled block has told when it is over."""

    value: float = 0.0


@contextmanager
def communicating() -> Iterator[Share]:
    """Measure the share of the block in which a collective was under way, alone or beside other work.

    Waiting for a slower process counts: its collectives last until it comes. Profiling costs time and memory for each
    operator of the block, so one step of many is looked at.
    """
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
    share = Share()
    with profile(activities=activities, acc_events=True) as profiler:
        yield share
    results = profiler.profiler.kineto_results if profiler.profiler else None
    if results is None:
        return
    spans = [(event.start_ns(), event.start_ns() + event.duration_ns(), event.name()) for event in results.events()]
    begin, end = min((span[0] for span in spans), default=0), max((span[1] for span in spans), default=0)
    if end > begin:
        share.value = covered(span[:2] for span in spans if span[2].startswith(COLLECTIVES)) / (end - begin)


def covered(spans: Iterable[tuple[int, int]]) -> int:
    """Return the length of the union of spans, each from its start to its end."""
    total, reached = 0, None
    for start, end in sorted(spans):
        begin = start if reached is None else max(start, reached)
        total += max(end - begin, 0)
        reached = end if reached is None else max(end, reached)
    return total
