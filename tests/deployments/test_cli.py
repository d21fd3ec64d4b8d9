"""The command line in real processes: what it prints, its exit statuses, and never a traceback for a mistake."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import Finished

ROOT = Path(__file__).resolve().parents[2]


def gristmill(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deployments.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=120, check=False)


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Assert that a mistake ended in one line with these words and exit status 2."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


def test_a_plan_of_a_finished_run_is_all_hits(smoke_run: Finished) -> None:
    done = gristmill("plan", "--recipe", "smoke", "--store", str(smoke_run.store.root), "--json")
    rows = json.loads(done.stdout)
    assert {row["state"] for row in rows} == {"hit"}
    assert [row["node"] for row in rows] == list(smoke_run.results)


def test_a_plan_in_an_empty_store_says_what_waits_for_what(tmp_path: Path) -> None:
    rows = json.loads(gristmill("plan", "--recipe", "smoke", "--store", str(tmp_path), "--json").stdout)
    states = {row["node"]: row["state"] for row in rows}
    assert states["examples"] == "miss" and states["sft"] == "waiting"
    text = gristmill("plan", "--recipe", "smoke", "--store", str(tmp_path)).stdout
    assert "waiting for" in text and "never built" in text


def test_changing_sft_rebuilds_sft_and_what_follows_and_explain_names_the_field(smoke_run: Finished) -> None:
    store = str(smoke_run.store.root)
    change = ("--recipe", "smoke", "--set", "sft.max_steps=3", "--store", store, "--json")
    rows = {row["node"]: row for row in json.loads(gristmill("plan", *change).stdout)}
    before = ("examples", "ingest", "pretrain", "chat", "evaluate.base")
    assert {rows[node]["state"] for node in before} == {"hit"}
    after = ("align", "distill", "quantize.int8", "package", "report")
    assert rows["sft"]["state"] == "miss" and {rows[node]["state"] for node in after} == {"waiting"}
    explained = json.loads(gristmill("explain", "sft", *change).stdout)
    assert [line.split(":")[0] for line in explained["changes"]] == ["config.max_steps"]


def test_small_and_base_validate_and_plan(tmp_path: Path) -> None:
    for recipe in ("small", "base"):
        done = gristmill("plan", "--recipe", recipe, "--store", str(tmp_path), "--json")
        assert done.returncode == 0, done.stderr
        assert len(json.loads(done.stdout)) > 15


def test_a_recipe_printed_as_yaml_is_a_recipe_again(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(gristmill("recipe", "smoke").stdout)
    printed = gristmill("recipe", str(tmp_path / "mine.yaml"), "--json").stdout
    assert json.loads(printed) == json.loads(gristmill("recipe", "smoke", "--json").stdout)


def test_one_stage_runs_without_prefect(smoke_run: Finished) -> None:
    done = gristmill("stage", "dedup", "--recipe", "smoke", "--store", str(smoke_run.store.root), "--json")
    assert [row["node"] for row in json.loads(done.stdout)] == ["examples", "ingest", "annotate", "filter", "dedup"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("plan", "--recipe", "demp"), ("demp", "did you mean 'demo'")),
        (("plan", "--set", "sft.max_step=3"), ("sft.max_step", "did you mean 'sft.max_steps'")),
        (("plan", "--set", "sfd.max_steps=3"), ("did you mean 'sft.max_steps'",)),
        (("plan", "--set", "sft.max_steps"), ("--set", "STAGE.FIELD=VALUE")),
        (("plan", "--set", "sft.max_steps=-3"), ("sft.max_steps", "-3", "greater than")),
        (("plan", "--set", "sft.max_steps=many"), ("sft.max_steps", "'many'", "integer")),
        (("plan", "--set", "ingest.source=/nowhere/at.warc.gz"), ("/nowhere/at.warc.gz", "does not exist")),
        (("plan", "ful"), ("ful", "did you mean 'full'")),
        (("explain", "pretrian"), ("pretrian", "did you mean 'pretrain'")),
        (("plan", "--recipe", "missing.yaml"), ("missing.yaml", "cannot be read")),
        (("artifacts", "show", "ffff"), ("ffff", "is no artifact")),
        (("plan", "--recipee", "demo"), ("--recipee",)),
        (("artifacts", "gc", "--keep-runs", "0"), ("--keep-runs", "0")),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_mistake_is_one_line_and_starts_nothing(
    arguments: tuple[str, ...], words: tuple[str, ...], tmp_path: Path
) -> None:
    refused(gristmill(*arguments, "--store", str(tmp_path / "store")), *words)
    assert not (tmp_path / "store").exists() or not list((tmp_path / "store").glob("[!.]*"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sft:\n  max_steps: 3\n  max_steps: 4\n", ("max_steps", "twice")),
        ("sftt:\n  max_steps: 3\n", ("sftt", "did you mean 'sft'")),
        ("- a list\n", ("no mapping",)),
        ("", ("no mapping",)),
        ("sft: {max_steps: 3\n", ("cannot be read",)),
        ("from: nothing\n", ("nothing", "no recipe")),
    ],
)
def test_a_wrong_recipe_file_is_one_line(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    refused(gristmill("plan", "--recipe", str(tmp_path / "mine.yaml"), "--store", str(tmp_path)), *words)


def test_artifacts_are_listed_shown_and_verified(smoke_run: Finished) -> None:
    store = ("--store", str(smoke_run.store.root))
    listed = json.loads(gristmill("artifacts", "list", *store, "--json").stdout)
    assert {item["stage"] for item in listed} == {result.manifest.stage for result in smoke_run.results.values()}
    shown = json.loads(gristmill("artifacts", "show", listed[0]["key"][:16], *store).stdout)
    assert shown["key"] == listed[0]["key"]
    assert "0 damaged" in gristmill("artifacts", "verify", *store).stdout


def test_the_report_is_found_and_copied(smoke_run: Finished, tmp_path: Path) -> None:
    done = gristmill("report", "--store", str(smoke_run.store.root), "--out", str(tmp_path / "report.html"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")


def test_every_command_teaches_with_help() -> None:
    for command in ("run", "stage", "plan", "explain", "recipe", "artifacts", "report", "scale", "serve"):
        done = gristmill(command, "--help")
        assert done.returncode == 0 and len(done.stdout) > 200, command


def test_a_corpus_of_nothing_is_a_failed_run_with_the_funnel(smoke_run: Finished) -> None:
    change = ("--set", "filter.gopher.min_words=90000")
    done = gristmill("stage", "filter", "--recipe", "smoke", *change, "--store", str(smoke_run.store.root))
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "no document is left" in last and "gopher_too_few_words" in last and "Traceback" not in done.stderr


def test_a_vocabulary_larger_than_the_corpus_is_named_with_what_it_reaches(smoke_run: Finished) -> None:
    change = ("--set", "tokenizer.vocab_size=60000")
    done = gristmill("stage", "tokenizer", "--recipe", "smoke", *change, "--store", str(smoke_run.store.root))
    assert done.returncode in (1, 2) and "Traceback" not in done.stderr
    assert "60,000" in done.stderr or "60000" in done.stderr


@pytest.mark.slow
def test_a_run_of_finished_stages_needs_no_server_and_ends_with_the_products(smoke_run: Finished) -> None:
    done = gristmill("run", "--recipe", "smoke", "--store", str(smoke_run.store.root))
    assert done.returncode == 0, done.stderr
    count = len(smoke_run.results)
    assert f"{count} stages: {count} hit, 0 built" in done.stdout
    for line in ("report: ", "bundle: ", "serve it: gristmill serve "):
        assert line in done.stdout
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_failed_run_is_one_line_and_status_one(smoke_run: Finished) -> None:
    change = ("--set", "filter.gopher.min_words=90000")
    done = gristmill("run", "prepare-corpus", "--recipe", "smoke", *change, "--store", str(smoke_run.store.root))
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no document is left" in done.stderr and "Traceback" not in done.stderr


def test_a_promotion_or_a_rollback_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    refused(gristmill("rollback", "--store", str(tmp_path)), "nothing was ever promoted", "gristmill promote")
    refused(gristmill("promote", "--store", str(tmp_path)), "has no package of a finished run", "gristmill run")
    (tmp_path / "registry").mkdir()
    (tmp_path / "registry" / "current").write_text("{")
    refused(gristmill("serve", "--store", str(tmp_path)), "is damaged", "no model is guessed")
