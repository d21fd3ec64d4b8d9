"""The report: one file that says what the manifests say, and opens in a browser."""

import json
import re
import shutil
import subprocess
from itertools import chain, pairwise
from pathlib import Path

import pytest

from pipelines.artifacts.store import read_manifest
from pipelines.recipes import smoke
from pipelines.reporting.markdown import run_markdown
from pipelines.settings import with_settings
from tests.conftest import Finished


def page_of(run: Finished) -> str:
    return (run.results["report"].path / "log" / "report.html").read_text()


def facts_of(run: Finished) -> dict[str, object]:
    loaded = json.loads((run.results["report"].path / "report" / "report.json").read_text())
    assert isinstance(loaded, dict)
    return loaded


def test_the_page_is_self_contained(smoke_run: Finished) -> None:
    page = page_of(smoke_run)
    assert page.count("<svg") >= 7
    assert "<script" not in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)


def test_the_funnel_adds_up_from_crawl_to_clean_documents(smoke_run: Finished) -> None:
    rows = facts_of(smoke_run)["funnel"]
    assert [row["stage"] for row in rows] == ["ingest", "annotate", "filter", "dedup", "decontaminate"]
    for row in rows:
        assert row["in"] == row["kept"] + sum(row["dropped"].values())
    for before, after in pairwise(rows):
        assert before["kept"] == after["in"]


def test_every_stage_of_the_run_is_in_the_lineage_table(smoke_run: Finished) -> None:
    page = page_of(smoke_run)
    for node, result in smoke_run.results.items():
        if node not in ("report",):
            assert f"{result.manifest.stage}/{result.manifest.key[:12]}" in page, node


def test_the_tokenizers_bytes_per_token_stand_by_language_and_source(smoke_run: Finished) -> None:
    quality = facts_of(smoke_run)["tokenizer"]
    assert isinstance(quality, dict)
    assert quality == json.loads((smoke_run.results["tokenizer"].path / "quality" / "quality.json").read_text())
    page = page_of(smoke_run)
    assert "<h2>Tokenizer</h2>" in page
    largest = [
        sorted(quality[kind].items(), key=lambda item: -item[1]["bytes"])[:12] for kind in ("languages", "sources")
    ]
    for name, share in chain(*largest):
        assert re.search(rf"<td>{re.escape(name)}</td>.*{share['bytes_per_token']:.3f}</td>", page), name


def test_every_score_stands_with_its_interval(smoke_run: Finished) -> None:
    scores = facts_of(smoke_run)["scores"]
    assert {"evaluate_aligned", "evaluate_base", "evaluate_student", "int8", "int4", "reward", "align"} <= {
        score["node"] for score in scores
    }
    for score in scores:
        assert score["low"] <= score["value"] <= score["high"], score


def test_the_digested_part_holds_no_timing(smoke_run: Finished) -> None:
    manifest = read_manifest(smoke_run.results["report"].path)
    assert manifest is not None and set(manifest.outputs) == {"report"}
    text = json.dumps(facts_of(smoke_run))
    for word in ("seconds", "built_at", "host", "commit", "peak_memory"):
        assert f'"{word}' not in text


def test_the_markdown_for_prefect_has_the_table_and_the_plots(smoke_run: Finished) -> None:
    text = run_markdown("full", list(smoke_run.results.values()), smoke())
    assert "| pretrain | built |" in text and text.count("data:image/png;base64,") >= 7
    assert "(../key/lineage-evaluate-base)" in text, "a stage's key leads to its lineage"
    assert "| evaluate.aligned | docs_questions | acc |" in text and "| quantize.int4 |" in text
    assert "  max_steps: 60\n" in text and len(text) < 3_000_000
    assert str(smoke_run.store.root) not in text


def test_settings_that_hold_a_fence_stay_in_theirs() -> None:
    text = run_markdown("full", [], with_settings(smoke(), {"report.title": "```` odd"}))
    assert text.count("\n`````") == 2


@pytest.mark.slow
def test_the_report_opens_in_a_browser_and_shows_its_plots(smoke_run: Finished, tmp_path: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if browser is None:
        pytest.skip("no Chromium is installed here")
    picture = tmp_path / "report.png"
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--window-size=1100,3000"]
    command += ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-quic"]
    command += [f"--user-data-dir={tmp_path / 'profile'}", f"--screenshot={picture}"]
    page = (smoke_run.results["report"].path / "log" / "report.html").as_uri()
    done = subprocess.run([*command, page], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    from PIL import Image

    with Image.open(picture) as image:
        assert image.size == (1100, 3000)
        colours = {colour for _, colour in image.convert("RGB").getcolors(1 << 24) or []}
    assert {(0x25, 0x63, 0xA8), (0xC8, 0x64, 0x1B)} <= colours, "the bars of the funnel are drawn"
