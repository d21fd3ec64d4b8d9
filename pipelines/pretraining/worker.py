"""One of the processes that train a model together."""

import json
import os
import sys
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import init_device_mesh

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.work import share_work
from pipelines.pretraining.causal_lm import train_base
from pipelines.pretraining.mesh import DIMENSIONS
from pipelines.pretraining.pretrain import PretrainConfig
from pipelines.pretraining.world import World

LONGEST_WAIT = timedelta(minutes=30)
"""For a process that others wait for: held-out text and the publication of a large model are what takes longest."""


def main(folder: Path) -> None:
    """Take part in the job of a folder; the first process writes its figures there, each one what it failed with."""
    job = json.loads((folder / "job.json").read_text())
    config = PretrainConfig.model_validate_json(json.dumps(job["config"]))
    out, rank = Path(job["out"]), int(os.environ["RANK"])
    lock = share_work(out)
    if rank:
        _into_file(folder / f"process-{rank}.log")
    try:
        world = join(config, folder / "store", rank)
        metrics = train_base(config, **{name: Path(path) for name, path in job["inputs"].items()}, out=out, world=world)
        if world.first:
            (folder / "metrics.json").write_text(json.dumps(metrics))
        world.wait()
        dist.destroy_process_group()
    except (UserError, StageFailed) as error:
        _tell(folder, rank, type(error).__name__, str(error))
        sys.exit(1)
    except Exception as error:
        _tell(folder, rank, "Exception", f"pretrain: {type(error).__name__}: {error}".splitlines()[0])
        raise
    finally:
        os.close(lock)


def join(config: PretrainConfig, store: Path, rank: int) -> World:
    """Meet the others and return what this process is among them; raise UserError without a GPU for each.

    Those of one machine meet at a file, those of several at the address that their agents agreed on.
    """
    parallel = config.parallel
    here = parallel.processes // parallel.nodes
    if config.device == "cuda":
        found = torch.cuda.device_count()
        if found < here:
            raise UserError(f"pretrain.parallel.processes: {here} a node, and torch finds {found} GPUs here; lower it")
        torch.cuda.set_device(rank % here)
    elif config.threads is None:
        torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // here))
    backend = "cpu:gloo,cuda:nccl" if config.device == "cuda" else "gloo"
    address = "env://" if parallel.nodes > 1 else f"file://{store.resolve()}"
    dist.init_process_group(
        backend, init_method=address, rank=rank, world_size=parallel.processes, timeout=LONGEST_WAIT
    )
    return World(rank, parallel, init_device_mesh(config.device, parallel.sizes, mesh_dim_names=DIMENSIONS))


def _into_file(path: Path) -> None:
    """Send what this process prints to a file: one of them speaks for all."""
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(handle, sys.stdout.fileno())
    os.dup2(handle, sys.stderr.fileno())
    os.close(handle)


def _tell(folder: Path, rank: int, kind: str, message: str) -> None:
    (folder / f"error-{rank:05d}.json").write_text(json.dumps({"kind": kind, "message": message}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
