"""The machine that a plan is for: what it is known by, and how much memory a run may take there. Without torch."""

import os
import platform
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from pathlib import Path

from pipelines.artifacts.canonical import digest_of

GPUS = Path("/proc/driver/nvidia/gpus")
CGROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


@dataclass(frozen=True)
class Machine:
    """What decides how fast a run is here, beside what it is."""

    processor: str
    cores: int
    """Those that this process may use."""
    memory_bytes: int
    """Of the machine, or of the container where that has less."""
    gpus: tuple[str, ...]
    gpu_memory_bytes: int
    """Of the smallest GPU; 0 where nothing tells."""
    torch: str
    threads: str
    """What OMP_NUM_THREADS says; empty where it says nothing."""

    @property
    def fingerprint(self) -> str:
        """Twelve digits that tell machines apart."""
        return digest_of(asdict(self))[:12]


@cache
def this_machine() -> Machine:
    """Return the machine that this process runs on."""
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_bytes=_memory(),
        gpus=tuple(_line(path, "Model:") for path in sorted(GPUS.glob("*/information"))),
        gpu_memory_bytes=_gpu_memory(),
        torch=metadata.version("torch"),
        threads=os.environ.get("OMP_NUM_THREADS", ""),
    )


def _processor() -> str:
    return _line(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine()


def _memory() -> int:
    whole = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [path.read_text().strip() for path in CGROUP_LIMITS if path.is_file()]
    return min([whole, *(int(limit) for limit in limits if limit.isdigit())])


def _gpu_memory() -> int:
    try:
        import pynvml

        pynvml.nvmlInit()
    except ImportError:  # an image without nvidia-ml-py
        return 0
    except pynvml.NVMLError:  # no driver
        return 0
    handles = [pynvml.nvmlDeviceGetHandleByIndex(number) for number in range(pynvml.nvmlDeviceGetCount())]
    return min((int(pynvml.nvmlDeviceGetMemoryInfo(handle).total) for handle in handles), default=0)


def _line(path: Path, start: str) -> str:
    """Return what follows the colon of the first line that starts so; nothing where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(start)), "")
