"""The power that a machine draws: read from its counters where it has some, else modelled."""

import time
from pathlib import Path
from typing import Literal

Source = Literal["nvml", "rapl", "modelled", "given"]

POWERCAP = Path("/sys/class/powercap")
CORE_WATTS = 12.0
GIB_WATTS = 0.3725
"""A busy core and a GiB of memory: what Lannelongue et al., "Green Algorithms" (2021), take for an unknown server."""


def modelled_watts(cores: int, memory_bytes: float) -> float:
    """Return the power of busy cores and of the memory that is taken."""
    return cores * CORE_WATTS + memory_bytes / 2**30 * GIB_WATTS


class EnergyCounter:
    """The joules that the processor's packages (RAPL) or the GPU (NVML) have drawn, with all that runs on them."""

    def __init__(self, device: str, powercap: Path = POWERCAP) -> None:
        self.source: Source = "modelled"
        self._packages: list[tuple[Path, int]] = []
        self._gpu: object | None = None
        if device == "cuda":
            self._find_gpu()
        else:
            self._find_packages(powercap)
        self._since = time.perf_counter()
        self._before = self._read()

    def watts(self) -> float | None:
        """Return the mean power since this was made or last asked; None where nothing measures it."""
        now, read = time.perf_counter(), self._read()
        seconds, self._since = now - self._since, now
        before, self._before = self._before, read
        if not read or seconds <= 0:
            return None
        wraps = [limit for _, limit in self._packages] or [0] * len(read)
        drawn = (
            later - earlier + (wrap if later < earlier else 0)
            for later, earlier, wrap in zip(read, before, wraps, strict=True)
        )
        return sum(drawn) / 1e6 / seconds

    def _find_packages(self, powercap: Path) -> None:
        """Find the counters of whole packages that may be read; those of their parts are counted in them."""
        for folder in sorted(powercap.glob("*-rapl:*")):
            if folder.name.count(":") > 1:
                continue
            try:
                limit = int((folder / "max_energy_range_uj").read_text())
                int((folder / "energy_uj").read_text())
            except (OSError, ValueError):  # since 2020 the kernel lets the administrator alone read them
                continue
            self._packages.append((folder / "energy_uj", limit))
        if self._packages:
            self.source = "rapl"

    def _find_gpu(self) -> None:
        try:
            import pynvml
        except ImportError:  # an image without nvidia-ml-py
            return
        try:
            pynvml.nvmlInit()
            self._gpu = pynvml.nvmlDeviceGetHandleByIndex(0)
            pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu)
        except pynvml.NVMLError:  # GPUs before Volta count no energy
            self._gpu = None
            return
        self.source = "nvml"

    def _read(self) -> list[int]:
        """Return the counters in microjoules."""
        if self._gpu is not None:
            import pynvml

            return [1000 * int(pynvml.nvmlDeviceGetTotalEnergyConsumption(self._gpu))]
        return [int(path.read_text()) for path, _ in self._packages]
