"""Filtering in parts: no byte depends on how many work on it or how it is divided, and what is finished stays."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from datatrove.data import Document

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.pins import PinCache, file_digest
from pipelines.artifacts.work import PROGRESS
from pipelines.corpus.documents import part_name, parts
from pipelines.corpus.filter import FILTER, FilterConfig, UrlRules, filter
from pipelines.corpus.samples import Samples
from tests.corpus.test_filter import GOOD, score, write_scored

TEXTS = [
    GOOD,
    *(f"{GOOD} Write to anna{number}@uni-a.ac.uk about {{x}}." for number in range(6)),
    f"{GOOD} Write to bob@uni-a.ac.uk.",
    *("too short" for _ in range(4)),
    f"{GOOD} And so on.",
    "",
]
CONFIG = FilterConfig(samples=3)


def digests(out: Path) -> dict[str, str]:
    """Return the digest of each published file."""
    files = [path for path in out.rglob("*") if path.is_file() and PROGRESS not in path.parts]
    return {str(path.relative_to(out)): file_digest(path) for path in sorted(files)}


def divided(folder: Path, *at: int) -> Path:
    """Write the texts in parts that end at these places."""
    return write_scored(folder, [TEXTS[begin:end] for begin, end in zip((0, *at), (*at, None), strict=True)])


def test_the_same_bytes_come_from_any_number_of_workers(tmp_path: Path) -> None:
    source = divided(tmp_path / "in", 3, 4, 4, 9)
    found = []
    for workers in (1, 2, 4):
        out = tmp_path / f"out{workers}"
        metrics = filter(CONFIG.model_copy(update={"workers": workers}), documents=source, out=out)
        found.append((metrics, digests(out)))
    assert found[0] == found[1] == found[2]
    assert sorted(found[0][1]) == [
        *(f"documents/{part_name(index)}" for index in range(5)),
        *("dropped/dropped.parquet", "dropped/samples.parquet"),
    ]
    metrics = found[0][0]
    assert (metrics["in"], metrics["kept"], metrics["pii.email"]) == (14, 3, 1)
    assert FilterConfig(workers=1).identity() == FilterConfig(workers=2).identity()


def test_what_is_dropped_and_shown_does_not_depend_on_the_division_into_parts(tmp_path: Path) -> None:
    found = []
    for number, places in enumerate([(), (1, 5, 9), (2, 3, 4, 5, 6)]):
        out = tmp_path / f"out{number}"
        metrics = filter(CONFIG, documents=divided(tmp_path / f"in{number}", *places), out=out)
        found.append((metrics, [file_digest(path) for path in sorted((out / "dropped").iterdir())]))
    assert found[0] == found[1] == found[2]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_damaged_part_is_named_the_others_stay_and_a_rerun_does_only_it(workers: int, tmp_path: Path) -> None:
    source, config = divided(tmp_path / "in", 3, 9), CONFIG.model_copy(update={"workers": workers})
    whole = filter(CONFIG, documents=source, out=tmp_path / "whole")
    damaged = parts(source)[1]
    content = damaged.read_bytes()
    damaged.write_bytes(content[: len(content) // 2])
    out = tmp_path / "out"
    with pytest.raises(StageFailed, match=r"filter: shard 1 of 3 failed \(ArrowInvalid.*; 2 are finished and stay"):
        filter(config, documents=source, out=out)
    damaged.write_bytes(content)
    before = {path.name: path.stat().st_mtime_ns for path in (out / "documents").iterdir()}
    assert sorted(before) == [part_name(0), part_name(2)]
    assert filter(config, documents=source, out=out) == whole
    assert digests(out) == digests(tmp_path / "whole")
    assert {name: (out / "documents" / name).stat().st_mtime_ns for name in before} == before


KILLED = """
import os, signal, sys
from pathlib import Path
from pipelines.corpus.filter import FilterConfig, filter

def watch(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("shards/00001.json"):
        os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(watch)
filter(FilterConfig(samples=3), documents=Path(sys.argv[1]), out=Path(sys.argv[2]))
"""


def test_a_killed_run_goes_on_after_the_finished_parts(tmp_path: Path) -> None:
    source, out = divided(tmp_path / "in", 3, 9), tmp_path / "out"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(source), str(out)], check=False)
    assert killed.returncode == -signal.SIGKILL
    first = (out / "documents" / part_name(0)).stat().st_mtime_ns
    whole = filter(CONFIG, documents=source, out=tmp_path / "whole")
    assert filter(CONFIG, documents=source, out=out) == whole
    assert digests(out) == digests(tmp_path / "whole")
    assert (out / "documents" / part_name(0)).stat().st_mtime_ns == first
    assert FILTER.resumable


def test_a_bad_block_list_is_told_before_any_part_is_filtered(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("two words\n")
    config = FilterConfig(urls=UrlRules(path=tmp_path / "list.txt"))
    with pytest.raises(UserError, match=r"filter\.urls\.path: .* line 1"):
        filter(config, documents=divided(tmp_path / "in", 3), out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_refuses_a_block_list_that_is_bad_or_absent(tmp_path: Path) -> None:
    pins, planned = PinCache(tmp_path / "pins"), FilterConfig(urls=UrlRules(path=tmp_path / "list.txt"))
    with pytest.raises(UserError, match=r"^filter\.urls\.path: .*list\.txt' cannot be read \(No such file"):
        planned.roots()["urls.path"].pin(pins)
    (tmp_path / "list.txt").write_text("good.example\ntwo words\n")
    with pytest.raises(UserError, match=r"^filter\.urls\.path: .* line 2: 'two words' is no entry"):
        planned.roots()["urls.path"].pin(pins)


def test_a_block_list_reaches_every_worker(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.example/7\na.example/12\n")
    config = CONFIG.model_copy(update={"urls": UrlRules(path=tmp_path / "list.txt"), "workers": 2})
    metrics = filter(config, documents=divided(tmp_path / "in", 3, 9), out=tmp_path / "out")
    assert (metrics["kept"], metrics["dropped.url_pattern"]) == (1, 2)


def test_a_document_that_two_files_hold_is_shown_once() -> None:
    samples = Samples(5, 100)
    for _ in range(2):
        samples.offer("empty", Document(text=GOOD, id="1", metadata=score(GOOD)))
    assert len(samples._held["empty"]) == 1
