"""Extraction in a child process: what a page does to the extractor costs that page, and nothing depends on the load."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import StageFailed
from pipelines.corpus.extract import Extractor, reason_and_text
from pipelines.corpus.extraction import BATCH_PAGES, ExtractorProcess, PageLimits, Text
from pipelines.corpus.readers.records import Dropped, Record

LIMITS = PageLimits(cpu_seconds=20, memory_bytes=4_000_000_000)
HOSTILE = """
import ctypes, os, re, signal, sys, time

def act(page, mode):
    html = page.decode()
    if "SEGFAULT" in html:
        ctypes.string_at(0)
    if "HANG" in html:
        re.match(r"(a+)+$", "a" * 64 + "b")
    if "SPIN" in html:
        while True: pass
    if "EXIT" in html:
        os._exit(0)
    if "ABORT" in html:
        os.abort()
    if "MEMORY" in html:
        return "", str(len(bytearray(10**12)))
    if "RAISE" in html:
        raise KeyError("odd")
    if "KILL" in html:
        os.kill(os.getpid(), signal.SIGKILL)
    if "PRINT" in html:
        print("noise", flush=True)
        os.write(1, b"noise")
    if "PID" in html:
        return "", str(os.getpid())
    if "ONCE" in html and act.fresh:
        os._exit(3)
    act.fresh = "DIRTY" in html
    return "", html.upper()

act.fresh = False

"""


def page(content: str, offset: int = 0) -> Record:
    return Record(offset=offset, digest="d", url="u", crawl_time="", content=content, is_html=True)


@pytest.fixture
def hostile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ExtractorProcess]:
    (tmp_path / "hostile_extractor.py").write_text(HOSTILE)
    monkeypatch.syspath_prepend(tmp_path)
    with ExtractorProcess("fast", PageLimits(0.5, 1_000_000_000), "hostile_extractor:act") as process:
        yield process


DEATHS = {
    "SEGFAULT": "extractor_crashed",
    "ABORT": "extractor_crashed",
    "EXIT": "extractor_crashed",
    "HANG": "extractor_cpu",
    "SPIN": "extractor_cpu",
    "MEMORY": "extractor_memory",
    "RAISE": "extractor_failed",
}


@pytest.mark.parametrize("kind", DEATHS)
def test_a_page_that_ends_the_extractor_costs_only_itself(hostile: ExtractorProcess, kind: str) -> None:
    found = hostile.texts(["one", f"two {kind}", "three", f"four {kind}"])
    assert found == [Text("ONE"), Text(reason=DEATHS[kind]), Text("THREE"), Text(reason=DEATHS[kind])]
    assert hostile.texts(["five"]) == [Text("FIVE")]


def test_a_page_is_dropped_only_if_a_fresh_child_dies_of_it_too(hostile: ExtractorProcess) -> None:
    assert hostile.texts(["dirty DIRTY", "page ONCE", "last"]) == [Text("DIRTY DIRTY"), Text("PAGE ONCE"), Text("LAST")]


def test_a_child_that_others_kill_fails_the_shard_and_drops_no_page(hostile: ExtractorProcess) -> None:
    with pytest.raises(StageFailed, match="SIGKILL ended the child process twice"):
        hostile.texts(["one", "two KILL"])


def test_a_child_killed_once_from_outside_changes_nothing(hostile: ExtractorProcess) -> None:
    (pid,) = hostile.texts(["PID"])
    os.kill(int(pid.text), signal.SIGKILL)
    assert hostile.texts(["one", "two"]) == [Text("ONE"), Text("TWO")]


def test_what_an_extractor_prints_does_not_reach_the_answers(hostile: ExtractorProcess) -> None:
    assert hostile.texts(["a PRINT", "b"]) == [Text("A PRINT"), Text("B")]


def test_one_child_serves_all_pages(hostile: ExtractorProcess) -> None:
    assert len({found.text for found in hostile.texts(["PID"] * 600)}) == 1


def test_time_on_the_wall_is_no_limit(tmp_path: Path, hostile: ExtractorProcess) -> None:
    (pid,) = hostile.texts(["PID"])
    os.kill(int(pid.text), signal.SIGSTOP)
    resume = subprocess.Popen([sys.executable, "-c", f"import time, os; time.sleep(1.5); os.kill({pid.text}, 18)"])
    assert hostile.texts(["one"]) == [Text("ONE")]
    resume.wait()


def test_an_extractor_that_cannot_be_started_is_said() -> None:
    with (
        ExtractorProcess("fast", LIMITS, "no_such_module:act") as process,
        pytest.raises(StageFailed, match="child process for no_such_module:act ended at its start"),
    ):
        process.texts(["x"])


def test_the_child_dies_with_its_parent_even_amid_foreign_code(tmp_path: Path) -> None:
    (tmp_path / "hostile_extractor.py").write_text(HOSTILE)
    code = (
        "from pipelines.corpus.extraction import *\n"
        "process = ExtractorProcess('fast', PageLimits(600, 10**9), 'hostile_extractor:act')\n"
        "print(process.texts(['PID'])[0].text, flush=True)\n"
        "process.texts(['HANG'])\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])}
    parent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
    assert parent.stdout is not None
    child = Path("/proc") / parent.stdout.readline().decode().strip() / "stat"
    time.sleep(0.3)
    assert child.exists()
    parent.kill()
    parent.wait()
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while child.exists() and child.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_items_keep_their_order_and_only_pages_are_extracted(hostile: ExtractorProcess) -> None:
    text = Record(offset=2, digest="d", url="u", crawl_time="", content="as it is", is_html=False)
    items = [text, page("a"), Dropped(1, "request"), text, page("b SEGFAULT", 3), page("c", 4)]
    found = list(hostile.results(items))
    assert [item.content if isinstance(item, Record) else item.reason for item in found] == [
        "as it is", "A", "request", "as it is", "extractor_crashed", "C",
    ]  # fmt: skip
    assert [item.offset for item in found] == [2, 0, 1, 2, 3, 4]


def test_more_pages_than_a_batch_holds_all_come_back(hostile: ExtractorProcess) -> None:
    sizes = [0, 1, 3_000_000, *range(2 * BATCH_PAGES)]
    found = list(hostile.results(page("x" * size) for size in sizes))
    assert [len(item.content) for item in found if isinstance(item, Record)] == sizes


def test_text_after_a_lone_surrogate_survives(hostile: ExtractorProcess) -> None:
    assert hostile.texts(["a\ud800b", "\udfff end"]) == [Text("A\ufffdB"), Text("\ufffd END")]


@pytest.fixture(scope="module", params=["fast", "quality"])
def real(request: pytest.FixtureRequest) -> Iterator[ExtractorProcess]:
    with ExtractorProcess(request.param, LIMITS) as process:
        yield process


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=[]), max_size=200), max_size=4))
def test_any_string_is_answered_with_text_that_can_be_stored(real: ExtractorProcess, pages: list[str]) -> None:
    found = real.texts([f"<html><body><p>{content}</p></body></html>" for content in pages])
    assert len(found) == len(pages)
    for answer in found:
        assert not answer.reason
        answer.text.encode()


TAGS = st.sampled_from(
    [
        "div",
        "p",
        "a",
        "b",
        "table",
        "tr",
        "td",
        "select",
        "option",
        "svg",
        "math",
        "template",
        "script",
        "ul",
        "article",
    ]
)
MARKUP = st.lists(
    st.one_of(
        TAGS.map("<{}>".format),
        TAGS.map("</{}>".format),
        TAGS.map("<{} class='x' id=y hidden".format),
        st.sampled_from(["<!--", "-->", "<![CDATA[", "]]>", "&#xD800;", "&#0;", "&amp", "&#x110000;", "<plaintext>"]),
        st.text(max_size=30),
    ),
    max_size=60,
).map("".join)


@settings(max_examples=100)
@given(MARKUP)
def test_any_markup_is_answered_as_it_would_be_without_a_child(real: ExtractorProcess, markup: str) -> None:
    content = markup.replace("\0", "\ufffd")
    (found,) = real.texts([content])
    reason, text = reason_and_text(content.encode(), real.extractor)
    assert (found.reason, found.text) == (reason, text.encode("utf-8", "replace").decode())


PARAGRAPH = "<p>The miller pours the grain between two stones, of which only the upper one turns with the wheel.</p>"
SIZES = {
    "300 nested blocks": "<div>" * 300 + PARAGRAPH + "</div>" * 300,
    "10,000 nested blocks": "<div>" * 10_000 + PARAGRAPH,
    "1,000,000 nested tags": "<b>" * 1_000_000 + PARAGRAPH,
    "200,000 siblings": "<p>x</p>" * 200_000 + PARAGRAPH,
    "10 MB in one paragraph": "<p>" + "word " * 2_000_000,
    "an attribute of 5 MB": f"<p title='{'x' * 5_000_000}'>x</p>" + PARAGRAPH,
    "a comment without an end": PARAGRAPH + "<!-- " + "x" * 100_000,
    "a script without an end": PARAGRAPH + "<script> " + "x" * 100_000,
    "plaintext": PARAGRAPH + "<plaintext>" + "</p>" * 1_000,
    "entities": PARAGRAPH + "&lol;" * 100_000 + "&amp;" * 100_000,
    "an entity bomb": "<?xml version='1.0'?><!DOCTYPE html [<!ENTITY a 'aaaaaaaaaa'>"
    + "".join(f"<!ENTITY {chr(97 + i)} '{f'&{chr(96 + i)};' * 10}'>" for i in range(1, 12))
    + f"]><html><body>{PARAGRAPH}<p>&l;</p></body></html>",
}


@pytest.mark.slow
@pytest.mark.parametrize("form", SIZES)
def test_pages_of_any_depth_and_width_end_with_text_or_a_reason(real: ExtractorProcess, form: str) -> None:
    (found,) = real.texts([f"<html><body>{SIZES[form]}</body></html>"])
    assert found.reason in ("", "too_complex")
    if form.startswith(("300", "an entity", "a comment", "a script", "plaintext", "entities")):
        assert "The miller pours the grain" in found.text
        assert len(found.text) < 2_000_000


@pytest.mark.parametrize("extractor", ["fast", "quality"])
def test_text_after_a_surrogate_written_as_a_reference_survives(extractor: Extractor) -> None:
    cut = "<p>Before &#xD800; between \ud800 and after it more words follow.</p>"
    html = f"<html><body><article>{PARAGRAPH}{cut}</article></body></html>"
    with ExtractorProcess(extractor, LIMITS) as process:
        (found,) = process.texts([html])
    assert "more words follow" in found.text
