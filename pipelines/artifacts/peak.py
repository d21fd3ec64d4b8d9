"""Peak memory of a piece of work: this process, and the largest of its finished children."""

import resource
import sys
from pathlib import Path

_CLEAR = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


class PeakMemory:
    """Measures from its making; on Linux the high-water mark is reset, elsewhere it is the process's whole life."""

    def __init__(self) -> None:
        self._children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        try:
            _CLEAR.write_text("5")
        except OSError:
            return

    def bytes(self) -> int:
        """Return the largest resident size so far."""
        unit = 1 if sys.platform == "darwin" else 1024
        children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
        grown = children * unit if children > self._children else 0
        return max(self._own(), grown)

    def _own(self) -> int:
        try:
            lines = _STATUS.read_text().splitlines()
        except OSError:
            lines = []
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
