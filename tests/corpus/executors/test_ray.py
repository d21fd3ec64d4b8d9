"""Ray: the same bytes from a real cluster on this machine, a failed shard named, and the rest kept."""

import hashlib
import importlib.util
import json
from functools import partial
from pathlib import Path

import pytest

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.corpus.execution import ShardedConfig
from pipelines.corpus.ingest import IngestConfig, ingest
from pipelines.corpus.shards import run_shards
from tests.corpus.executors.test_slurm import write_number

absent = importlib.util.find_spec("ray") is None
needs_ray = pytest.mark.skipif(absent, reason="Ray is not installed; pip install 'gristmill[ray]'")


def fail_at_one(out: Path, index: int) -> dict[str, int]:
    if index == 1:
        raise ValueError("no such luck")
    return write_number(out, index)


def on_ray(**fields: object) -> ShardedConfig:
    return ShardedConfig.model_validate({"executor": "ray", "ray": {"memory_gb": 0.1, **fields}})


def digests(folder: Path) -> list[str]:
    return [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*.parquet"))]


@needs_ray
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning", "ignore::FutureWarning")
def test_a_real_cluster_writes_the_same_bytes_and_names_what_failed(tmp_path: Path) -> None:
    rows = [json.dumps({"text": f"document {number} " + "of some words " * 20}) for number in range(40)]
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    fields = {"source": str(tmp_path / "rows.jsonl"), "shard_bytes": 5_000, "workers": 2}
    here = ingest(IngestConfig.model_validate(fields), out=tmp_path / "here")
    there = IngestConfig.model_validate({**fields, "executor": "ray", "ray": {"memory_gb": 0.1}})
    assert ingest(there, out=tmp_path / "there") == here
    assert len(digests(tmp_path / "here")) > 2
    assert digests(tmp_path / "there") == digests(tmp_path / "here")
    out = tmp_path / "out"
    with pytest.raises(StageFailed, match=r"numbers: shard 1 of 3 failed \(ValueError: no such luck\); 2 are finished"):
        run_shards(partial(fail_at_one, out), 3, out=out, workers=2, what="numbers", execution=on_ray())
    assert run_shards(partial(write_number, out), 3, out=out, workers=1, what="numbers") == {"in": 3, "kept": 3}
    with pytest.raises(UserError, match=r"lower ray\.cpus or ray\.memory_gb"):
        run_shards(partial(write_number, out), 4, out=out, workers=1, what="numbers", execution=on_ray(memory_gb=4096))


@pytest.mark.skipif(not absent, reason="Ray is installed")
def test_without_ray_the_remedy_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gristmill\[ray\]"):
        run_shards(partial(write_number, tmp_path), 1, out=tmp_path, workers=1, what="numbers", execution=on_ray())
