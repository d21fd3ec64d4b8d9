"""What the libraries see while the harness runs is undone when it ends."""

import os
from pathlib import Path

import datasets
import huggingface_hub
import lm_eval.api.task
import pytest

from pipelines.evaluation.surroundings import data_sets, offline, quiet


def test_going_offline_holds_for_a_library_that_was_imported_before() -> None:
    before = huggingface_hub.is_offline_mode()
    with offline():
        assert huggingface_hub.is_offline_mode()
        assert datasets.config.HF_HUB_OFFLINE
        with pytest.raises(ConnectionError):
            datasets.load_dataset("nobody/no-such-set")
    assert huggingface_hub.is_offline_mode() == before
    assert ("HF_HUB_OFFLINE" in os.environ) == before


def test_the_working_directory_and_the_cache_are_given_back(tmp_path: Path) -> None:
    here, cache = Path.cwd(), datasets.config.HF_DATASETS_CACHE
    with pytest.raises(RuntimeError), data_sets(tmp_path / "cache", tmp_path):
        assert Path.cwd() == tmp_path
        assert tmp_path / "cache" == datasets.config.HF_DATASETS_CACHE
        raise RuntimeError
    assert Path.cwd() == here
    assert cache == datasets.config.HF_DATASETS_CACHE


def test_bars_are_drawn_again_after_the_quiet() -> None:
    bar = lm_eval.api.task.tqdm
    with quiet():
        assert list(lm_eval.api.task.tqdm([1], total=1)) == [1]
        assert datasets.are_progress_bars_disabled()
    assert lm_eval.api.task.tqdm is bar
