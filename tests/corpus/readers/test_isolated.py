"""A child process takes what a parser does to itself, and the next question finds a new one."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.errors import StageFailed
from pipelines.corpus.readers.isolated import CRASHED, TOO_SLOW, ChildDied, Isolated


def work(what: str, value: Any = None) -> Any:
    """Answer, or do what parsers do."""
    if what == "hang":
        while True:
            pass
    if what == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "crash once":
        if not Path(value).exists():
            return "answered"
        Path(value).unlink()
        os.kill(os.getpid(), signal.SIGSEGV)
    if what == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "explode":
        return len(bytearray(4 << 30))
    return value


def test_a_child_that_dies_of_what_came_before_is_asked_again(tmp_path: Path) -> None:
    (tmp_path / "once").touch()
    assert Isolated(work, cpu_seconds=1)("crash once", str(tmp_path / "once")) == "answered"


def test_a_child_that_is_killed_from_outside_is_no_reason_to_drop_a_file() -> None:
    with pytest.raises(StageFailed, match="work: its process was ended by SIGKILL, perhaps out of memory"):
        Isolated(work, cpu_seconds=1)("killed")


def test_a_script_without_a_guard_is_told_so_and_loses_no_file(tmp_path: Path) -> None:
    script = "from pipelines.corpus.readers.isolated import Isolated\nprint(Isolated(abs, 1)(-3))\n"
    (tmp_path / "bare.py").write_text(script)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    command = [sys.executable, str(tmp_path / "bare.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    assert "StageFailed: abs: its process did not start; a script that calls a stage needs" in done.stderr


@pytest.mark.parametrize(("what", "reason"), [("hang", TOO_SLOW), ("crash", CRASHED), ("explode", "out_of_memory")])
def test_a_question_that_kills_the_child_costs_only_itself(what: str, reason: str) -> None:
    child = Isolated(work, cpu_seconds=1)
    assert child("say", ["ü", {"a": 1.5}]) == ["ü", {"a": 1.5}]
    with pytest.raises(ChildDied) as died:
        child(what)
    assert died.value.reason == reason
    assert child("say", "again") == "again"
