"""The process that starts this node's ranks of a run by torchrun's launcher and ends them all when one fails.

On a run of several nodes the first one's is started by the stage, and each other's by hand, on the same store:
`python -m pipelines.pretraining.agent FOLDER`, with the folder that the first one says.
"""

import json
import os
import socket
import sys
from pathlib import Path

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.elastic.rendezvous.api import RendezvousConnectionError, RendezvousTimeoutError
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from pipelines.pretraining.launch import GRACE_SECONDS
from pipelines.pretraining.mesh import ParallelConfig

LOOPBACK = ("lo", "lo0")
HERE = ("127.0.0.1", "localhost")


def main(where: str) -> None:
    """Run the job of a folder in as many processes as its config says; write how they ended where one failed."""
    folder = Path(where)
    job = json.loads((folder / "job.json").read_text())
    parallel = ParallelConfig.model_validate(job["config"]["parallel"])
    if parallel.is_zero:  # which else takes a GPU where it sees one; transformers imports it before anything is asked
        os.environ["DS_ACCELERATOR"] = job["config"]["device"]
    endpoint = parallel.rendezvous_endpoint
    inside = endpoint is None or endpoint.split(":")[0] in HERE
    if inside:
        _stay_inside()
    config = LaunchConfig(
        min_nodes=parallel.nodes,
        max_nodes=parallel.nodes,
        nproc_per_node=parallel.processes // parallel.nodes,
        run_id=job["run"],
        rdzv_backend="c10d",
        rdzv_endpoint=endpoint or str(folder / "rendezvous"),
        rdzv_configs={} if endpoint else {"store_type": "file"},
        local_addr=HERE[0] if inside else None,
        max_restarts=0,
        shutdown_timeout=round(GRACE_SECONDS),
    )
    command = ("-m", "pipelines.pretraining.worker", str(folder))
    try:
        elastic_launch(config, sys.executable)(*command)
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        (folder / "ended.txt").write_text(f"process {rank} of {parallel.processes}: {failure.message}")
        sys.exit(1)
    except (RendezvousTimeoutError, RendezvousConnectionError) as error:
        met = f"the agents of {parallel.nodes} nodes did not all meet at {endpoint}: {error}"
        (folder / "ended.txt").write_text(f"{met}; start one on each, and see that all reach that port")
        sys.exit(1)
    except SignalException as asked:
        sys.exit(128 + asked.sigval)


def _stay_inside() -> None:
    """Have the processes talk over the loopback interface."""
    loopback = next((name for _, name in socket.if_nameindex() if name in LOOPBACK), None)
    if loopback:
        os.environ["GLOO_SOCKET_IFNAME"] = loopback


if __name__ == "__main__":
    main(sys.argv[1])
