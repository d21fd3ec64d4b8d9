"""A lock a device: who holds it, who waits, and that a dead holder is no holder."""

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipelines.artifacts.build import build
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.slot import device_slots, held_slots, physical, slot_folder
from pipelines.artifacts.store import Store
from pipelines.finetuning.tuning import TuningConfig
from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.pretrain import PretrainConfig
from tests.artifacts.toys import SLOW, SOURCE, SlowConfig, SourceConfig

HOLD = """
import os, sys, time
from pipelines.artifacts.slot import device_slots
with device_slots([sys.argv[1]], "first"):
    print("held", flush=True)
    if sys.argv[2] == "child":
        import subprocess
        from pipelines.artifacts.slot import held_slots
        child = subprocess.Popen(["sleep", "60"], pass_fds=held_slots())
        print(child.pid, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def slots(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRISTMILL_SLOTS", str(tmp_path / "slots"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return tmp_path / "slots"


def holder(device: str, how: str = "alone") -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", HOLD, device, how], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.wait()
    assert process.stdout
    process.stdout.close()


def test_a_second_one_waits_and_says_for_whom(capfd: pytest.CaptureFixture[str]) -> None:
    first = holder("toy:0")
    second = subprocess.Popen(
        [sys.executable, "-c", HOLD.replace('"first"', '"second"'), "toy:0", "alone"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert second.stderr and second.stdout
    said = second.stderr.readline()
    assert said.startswith(f"second: toy:0 is held by first (process {first.pid}, since ")
    assert said.endswith("; waiting for it\n")
    end(first)
    assert second.stdout.readline() == "held\n"
    end(second)
    second.stderr.close()


def test_a_dead_holder_does_not_block(capfd: pytest.CaptureFixture[str]) -> None:
    end(holder("toy:0"))
    start = time.monotonic()
    with device_slots(["toy:0"], "next"):
        assert time.monotonic() - start < 1
    assert capfd.readouterr().err == ""


def test_a_child_that_was_given_the_device_holds_it_after_its_parent() -> None:
    first = holder("toy:0", "child")
    assert first.stdout
    child = int(first.stdout.readline())
    end(first)
    waiting = subprocess.Popen([sys.executable, "-c", HOLD, "toy:0", "alone"], stdout=subprocess.PIPE,
                               stderr=subprocess.PIPE, text=True)  # fmt: skip
    assert waiting.stderr and waiting.stdout
    assert "is held by first" in waiting.stderr.readline()
    os.kill(child, 9)
    assert waiting.stdout.readline() == "held\n"
    end(waiting)
    waiting.stderr.close()


def test_another_device_and_the_processor_wait_for_nobody() -> None:
    first = holder("toy:0")
    with device_slots(["toy:1", "cpu"], "second"):
        assert len(held_slots()) == 1
    with device_slots(["cpu"], "second"):
        assert held_slots() == ()
    end(first)


def test_the_locks_are_this_users_alone(slots: Path) -> None:
    with device_slots(["toy:0", "toy:0"], "first"):
        assert stat.S_IMODE(slots.stat().st_mode) == 0o700
        assert stat.S_IMODE((slots / "toy-0.lock").stat().st_mode) == 0o600
        assert json.loads((slots / "toy-0.lock").read_text())["process"] == os.getpid()


def test_a_link_in_place_of_the_folder_or_the_lock_is_refused(
    slots: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    slots.mkdir()
    (slots / "toy-0.lock").symlink_to(victim)
    with pytest.raises(UserError, match=r"toy-0\.lock"), device_slots(["toy:0"], "first"):
        pass
    assert victim.read_text() == "precious"
    monkeypatch.delenv("GRISTMILL_SLOTS")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "temporary" / f"gristmill-{os.getuid()}").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="is not this user's own folder"):
        slot_folder()


def test_a_wrong_name_is_refused() -> None:
    with pytest.raises(UserError, match=r"'\.\./x' is none"), device_slots(["../x"], "first"):
        pass


def test_a_device_is_named_as_on_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert physical("cuda") == physical("cuda:0") == "cuda:0"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-8f2a")
    assert physical("cuda") == "cuda:3"
    assert physical("cuda:1") == "cuda:GPU-8f2a"


def test_a_stage_names_the_devices_that_it_computes_on() -> None:
    assert TuningConfig(device="cuda").devices() == ("cuda",)
    assert PretrainConfig().devices() == ("cpu",)
    several = PretrainConfig(device="cuda", parallel=ParallelConfig(processes=2))
    assert several.devices() == ("cuda:0", "cuda:1")


def test_a_hit_waits_for_no_device(store: Store, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("grist")
    text = build(store, SOURCE, SourceConfig(path=tmp_path / "texts"), {}, node="source").artifact["text"]
    config = SlowConfig(steps=2, device="toy:0")
    assert not build(store, SLOW, config, {"text": text}, node="slow").hit
    first = holder("toy:0")
    start = time.monotonic()
    assert build(store, SLOW, config, {"text": text}, node="slow").hit
    assert time.monotonic() - start < 5
    end(first)
