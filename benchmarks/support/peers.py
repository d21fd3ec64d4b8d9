"""The environment of the tools that ours are measured against: `make peers` builds it."""

import os
from pathlib import Path

DEFAULT = Path(__file__).resolve().parents[2] / ".venv-peers"


def peer_python() -> Path | None:
    """Return the interpreter of the peers' environment, which GRISTMILL_PEERS may name; None where there is none."""
    python = Path(os.environ.get("GRISTMILL_PEERS", DEFAULT)) / "bin" / "python"
    if python.is_file():
        return python
    print(f"peers: {python} does not exist, so the peers are not measured; run make peers")
    return None
