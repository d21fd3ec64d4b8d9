"""The published state of a run, and how another run goes on from it."""

import shutil
from pathlib import Path
from typing import Any

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import file_digest
from pipelines.pretraining.averaging import AVERAGE
from pipelines.pretraining.checkpoint import DamagedCheckpoint, Snapshot, check_files, read_files, write_files
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.pretraining.state_facts import check_facts, model_facts
from pipelines.tokens.loader import INDEX_FILE


def run_facts(config: PretrainConfig, train: Path, tokenizer: str) -> dict[str, Any]:
    """Return what a state must share with the run that goes on from it; `order` fixes the order of samples."""
    folders = (train, *(corpus.shards for corpus in config.mixture.corpora))
    shares = config.mixture.identity() if config.mixture.corpora else None
    order = [config.seed, config.sequence_length, shares, *(file_digest(folder / INDEX_FILE) for folder in folders)]
    return {**model_facts(config), "tokenizer": tokenizer, "order": order}


def read_state(folder: Path, facts: dict[str, Any]) -> Snapshot:
    """Return the state of an earlier run to go on from; raise UserError where it does not fit."""
    try:
        check_files(folder)
        snapshot = read_files(folder)
    except DamagedCheckpoint as error:
        raise UserError(f"init_from: {error}; build that run again") from None
    check_facts(snapshot.facts, {name: fact for name, fact in facts.items() if name != "order"})
    return snapshot


def first_sample(state: Snapshot | None, facts: dict[str, Any]) -> int:
    """Return where the run begins: at the next unread sample where the order is the earlier run's, else at the first.

    The samples are numbered through all epochs, so a run with another batch size goes on at the same place.
    """
    if state is None or state.facts["order"] != facts["order"]:
        return 0
    return int(state.facts["next_sample"])


def write_state(folder: Path, whole: Snapshot, facts: dict[str, Any], next_sample: int) -> None:
    """Write the weights, their average, the optimizers' state, torch's generators and the loader's position."""
    # Other threads of the process may draw from Python's and numpy's generators; no step does.
    rng = {name: state for name, state in whole.tensors["rng"].items() if not name.startswith(("python", "numpy"))}
    shutil.rmtree(folder, ignore_errors=True)
    averages = {name: value for name, value in whole.tensors["averages"].items() if name.startswith(AVERAGE)}
    tensors = {**whole.tensors, "rng": rng, "averages": averages}
    write_files(folder, Snapshot(tensors, {**facts, "next_sample": next_sample}))
