"""A mirror built from public files, and lm-eval's official tasks on it with the network denied."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.evaluation.catalog import card
from pipelines.evaluation.scores import read_scores
from tests.evaluation.mirror import build_mirror
from tests.evaluation.workbench import Workbench

OFFICIAL = ("mmlu", "blimp", "crows_pairs_english", "arc_easy", "wikitext")

DENIED = """
import json, os, socket, sys

def deny(*args, **kwargs):
    raise OSError("the network is denied")

socket.socket.connect = socket.socket.connect_ex = deny
socket.getaddrinfo = socket.create_connection = socket.gethostbyname = deny

import huggingface_hub  # before the stage, so that its constants are set when the stage goes offline
from pathlib import Path
from pipelines.evaluation.evaluate import EvaluateConfig, evaluate

paths = {name: Path(path) for name, path in json.loads(sys.argv[2]).items()}
evaluate(EvaluateConfig(**json.loads(sys.argv[1])), **paths)
"""


def write_archive(path: Path, files: dict[str, str]) -> None:
    with tarfile.open(path, "w:xz") as archive:
        for name, text in files.items():
            file = path.parent / "member"
            file.write_text(text)
            archive.add(file, name)


def test_a_mirror_says_which_split_stands_in_for_another(tmp_path: Path) -> None:
    write_archive(
        tmp_path / "mmlu-dev-val.tar.xz",
        {"dev/anatomy_dev.csv": '"Where, then?",a,b,c,d,D\n', "val/anatomy_val.csv": "What?,a,b,c,d,A\n"},
    )
    assert build_mirror(tmp_path, tmp_path / "mirror") == ["cais/mmlu"]
    header = card(tmp_path / "mirror", "cais/mmlu")
    assert header is not None
    assert header["note"] == "MMLU's validation split stands in for its test split."
    assert [row["config_name"] for row in header["configs"]] == ["anatomy"]


def test_a_mirror_of_mmlu_with_its_test_split_uses_it(tmp_path: Path) -> None:
    rows = {f"{kind}/anatomy_{kind}.csv": f"{kind}?,a,b,c,d,A\n" for kind in ("dev", "val", "test")}
    write_archive(tmp_path / "mmlu-dev-val.tar.xz", rows)
    build_mirror(tmp_path, tmp_path / "mirror")
    assert card(tmp_path / "mirror", "cais/mmlu") == {
        "configs": [
            {
                "config_name": "anatomy",
                "data_files": [
                    {"split": split, "path": f"anatomy/{split}-00000-of-00001.parquet"}
                    for split in ("dev", "validation", "test")
                ],
            }
        ],
        "note": "MMLU as published.",
    }


def test_a_folder_without_benchmark_files_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"holds none of mmlu-dev-val.tar.xz"):
        build_mirror(tmp_path, tmp_path / "mirror")


@pytest.mark.slow
def test_official_tasks_run_from_a_mirror_with_the_network_denied(
    shared_data: Path, workbench: Workbench, tmp_path: Path
) -> None:
    build_mirror(shared_data, tmp_path / "mirror")
    config = {
        "tasks": OFFICIAL,
        "mirror": str(tmp_path / "mirror"),
        "task_limit": 1,
        "incomplete_groups": True,
        "heldout_tokens": 200,
        "bias_templates": 1,
        "samples": 1,
        "sample_tokens": 1,
        "resamples": 100,
    }
    out = tmp_path / "out"
    out.mkdir()
    home = tmp_path / "home"
    home.mkdir()
    paths = {"model": str(workbench.model), "heldout": str(workbench.heldout), "out": str(out)}
    command = [sys.executable, "-W", "error", "-c", DENIED, json.dumps(config), json.dumps(paths)]
    root = Path(__file__).parents[2]
    environment = {"PYTHONPATH": str(root), "HOME": str(home), "PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=tmp_path, timeout=600)
    assert done.returncode == 0, done.stderr
    scores = {score.name: score for score in read_scores(out / "scores/scores.json")}
    for name in ("mmlu.acc", "mmlu_stem.acc", "blimp.acc", "arc_easy.acc_norm", "wikitext.bits_per_byte"):
        assert scores[name].low <= scores[name].value <= scores[name].high
    assert scores["mmlu.acc"].n == 57
    assert scores["crows_pairs_english.pct_stereotype"].n == 1
    notes = json.loads((out / "scores/scores.json").read_text())["notes"]
    assert notes["data_sets"]["cais/mmlu"] == "MMLU's validation split stands in for its test split."
    assert len(notes["absent_members"]["blimp"]) == 20
    assert not [file for file in home.rglob("*") if file.is_file()]
