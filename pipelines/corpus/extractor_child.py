"""The process in which pages are parsed: it reads batches of pages from a pipe and answers each on another.

Whatever a page does to an extractor ends at most this process. The limits are in CPU time and in bytes of address
space, which the kernel holds even while foreign code runs: no signal handler of Python would.
"""

import os
import resource
import signal
import struct
import sys
from collections.abc import Callable
from importlib import import_module
from typing import BinaryIO

from pipelines.artifacts.guard import die_with

COUNT = struct.Struct("<I")
ANSWER = struct.Struct("<BI")
TEXT, REASON = 0, 1
OUT_OF_MEMORY = 77
"""Exit status after a page for which the address space did not suffice; a fresh process answers the next."""

Extraction = Callable[[bytes], tuple[str, str]]
"""From HTML in UTF-8 to a reason, empty where the page is not refused, and its text."""


def serve(extract: Extraction, requests: BinaryIO, answers: BinaryIO, cpu_seconds: float) -> None:
    """Answer batches until the pipe ends. A batch is read whole before its first answer, so that no pipe blocks."""
    while head := requests.read(COUNT.size):
        (count,) = COUNT.unpack(head)
        lengths = struct.unpack(f"<{count}I", requests.read(COUNT.size * count))
        for page in [requests.read(length) for length in lengths]:
            signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
            kind, answer = _answer(extract, page)
            signal.setitimer(signal.ITIMER_PROF, 0)
            answers.write(ANSWER.pack(kind, len(answer)) + answer)
            answers.flush()


def _answer(extract: Extraction, page: bytes) -> tuple[int, bytes]:
    try:
        reason, text = extract(page)
        return (REASON, reason.encode()) if reason else (TEXT, text.encode("utf-8", "replace"))
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except Exception:  # noqa: BLE001  # whatever a page makes an extractor raise is that page's reason
        return REASON, b"extractor_failed"


def named(call: str) -> Callable[..., tuple[str, str]]:
    """Return the function that `module:name` names."""
    module, name = call.split(":")
    found: Callable[..., tuple[str, str]] = getattr(import_module(module), name)
    return found


def main(call: str, mode: str, cpu_seconds: float, memory_bytes: int, parent: int) -> None:
    """Serve `call` on standard input and output, which the extractor itself does not get to see."""
    die_with(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent, which gets it too, decides what an interrupt means
    requests, answers = os.fdopen(os.dup(0), "rb", 1 << 20), os.fdopen(os.dup(1), "wb", 1 << 20)
    with open(os.devnull, "r+b") as nowhere:  # noqa: PTH123  # a descriptor is wanted
        os.dup2(nowhere.fileno(), 0)
        os.dup2(nowhere.fileno(), 1)
    extract = named(call)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    answers.write(b"\0")
    answers.flush()
    serve(lambda page: extract(page, mode), requests, answers, cpu_seconds)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
