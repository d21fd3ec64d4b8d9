"""The process that starts the ranks of a run by torchrun's launcher and ends them all when one fails."""

import json
import sys
import uuid
from pathlib import Path

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipelines.pretraining.launch import GRACE_SECONDS


def main(where: str) -> None:
    """Run the job of a folder in as many processes as its config says; write how they ended where one failed."""
    folder = Path(where)
    processes = json.loads((folder / "job.json").read_text())["config"]["parallel"]["processes"]
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=processes,
        run_id=uuid.uuid4().hex,
        rdzv_backend="c10d",
        rdzv_endpoint=str(folder / "rendezvous"),
        rdzv_configs={"store_type": "file"},
        local_addr="127.0.0.1",
        max_restarts=0,
        shutdown_timeout=round(GRACE_SECONDS),
    )
    command = ("-m", "pipelines.pretraining.worker", str(folder))
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        (folder / "ended.txt").write_text(f"process {rank} of {processes}: {failure.message}")
        sys.exit(1)
    except SignalException as asked:
        sys.exit(128 + asked.sigval)
