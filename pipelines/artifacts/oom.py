"""How often the kernel has killed for lack of memory in this process's control group."""

from pathlib import Path

GROUPS = Path("/sys/fs/cgroup")


def oom_kills(groups: Path = GROUPS, own: Path = Path("/proc/self/cgroup")) -> int:
    """Return the count of the control group; 0 where the system keeps none."""
    try:
        lines = own.read_text().splitlines()
    except OSError:
        return 0
    path = next((line.split(":", 2)[2].lstrip("/") for line in lines if line.startswith("0::")), "")
    for counts in (groups / path / "memory.events", groups / "memory.events", groups / "memory" / "memory.oom_control"):
        try:
            fields = dict(line.split() for line in counts.read_text().splitlines())
        except (OSError, ValueError):
            continue
        return int(fields.get("oom_kill", 0))
    return 0
