"""A store with a ladder in it: artifacts whose losses follow a law that is known."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from pipelines.artifacts.key import key_of
from pipelines.artifacts.manifest import FileEntry, InputEntry, Manifest
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.store import Store
from pipelines.planning.counts import counts_of
from pipelines.planning.scaling_law import Law
from pipelines.pretraining.pretrain import PretrainConfig

LAW = Law(np.log(400.0), np.log(2000.0), np.log(1.7), 0.34, 0.37)
VOCABULARY = 300
NOISE = 0.003


def published(store: Store, stage: str, **facts: Any) -> str:
    """Write an artifact of one file and return its key."""
    identity = facts.pop("identity", {"config": {}})
    key = key_of(identity)
    folder = store.folder(stage, key)
    (folder / "log").mkdir(parents=True)
    (folder / "log" / "told.json").write_text(json.dumps({"stage": stage}))
    path = folder / "log" / "told.json"
    usual: dict[str, Any] = {
        "config": {}, "inputs": {}, "metrics": {}, "seconds": 1.0,
        "peak_memory_bytes": 1 << 28, "built_at": "2026-01-01T00:00:00.000000+00:00", "host": "here",
    }  # fmt: skip
    entry = FileEntry(sha256=file_digest(path), bytes=path.stat().st_size)
    fixed: dict[str, Any] = {"version": 1, "roots": {}, "outputs": {}, "libraries": {}, "code": "", "commit": None}
    manifest = Manifest(
        stage=stage, key=key, identity=identity, files={"log/told.json": entry}, **{**fixed, **usual, **facts}
    )
    (folder / "manifest.json").write_text(manifest.model_dump_json())
    return key


def run(store: Store, size: str, steps: int, *, lr: float = 1e-3, worse: float = 0.0, **changes: Any) -> str:
    """Write a finished run whose loss is the law's, with some noise and so much more; return its key."""
    config = PretrainConfig(size=size, max_steps=steps, lr=lr, sequence_length=64, global_batch=4, **changes)
    counts = counts_of(config, VOCABULARY)
    number = len(list((store.root / "pretrain").glob("*"))) if (store.root / "pretrain").is_dir() else 0
    noise = float(np.random.default_rng(number).normal(0, NOISE))
    loss = LAW.loss(counts.parameters, counts.tokens) * float(np.exp(noise)) + worse
    (tokenizer,) = (store.root / "tokenizer").iterdir()
    return published(
        store,
        "pretrain",
        config=config.model_dump(mode="json"),
        identity={"config": config.identity(), "number": number},
        inputs={"tokenizer": InputEntry(stage="tokenizer", key=tokenizer.name, output="tokenizer", digest="c")},
        metrics={"heldout_loss": loss, "steps": float(steps)},
    )


def ladder(folder: Path, sizes: tuple[str, ...], lengths: tuple[int, ...]) -> Store:
    """Return a store with a run of each size and length."""
    store = Store(folder)
    published(store, "tokenizer", metrics={"vocab_size": float(VOCABULARY)})
    for size in sizes:
        for steps in lengths:
            run(store, size, steps)
    return store
