"""A fit of loss against parameters and tokens from a ladder of small runs, tested on a larger one that it has not seen.

Eight runs of 0.6 to 2.6 M parameters on 65,536 to 262,144 tokens of English novels, and one of 5.9 M that is held out.
The shortest runs of the three sizes are done at several learning rates; the line through the best ones gives those of
all other runs. All are artifacts of the store SCALE_STORE, so a run that was stopped goes on where it was; ten minutes
on a quiet core. SCALE_PLOT names a file for the picture. The last line is one JSON object.
"""

import json
import os
import sys
import tempfile
from pathlib import Path

from support.claims import claim
from support.ladder import VOCABULARY, Ladder, Rung

from deployments.scaling import scale
from pipelines.artifacts.store import Store
from pipelines.models.counting import count_parameters
from pipelines.planning.advice import rate_for, trial_of
from pipelines.planning.ladder import ladder_in

SHORTEST = 1 << 16
SWEEPS = {
    "tiny": (1e-3, 2e-3, 4e-3, 8e-3),
    "smoke": (1e-3, 2e-3, 4e-3),
    "mini": (1e-3, 2e-3, 4e-3),
}
OTHERS = (
    *((size, SHORTEST << 1) for size in SWEEPS),
    *((size, SHORTEST << 2) for size in ("tiny", "smoke")),
    ("demo", SHORTEST),  # the dearest, which is held out
)
FOLDER = Path(os.environ.get("SCALE_STORE", Path(tempfile.gettempdir()) / "gristmill-scale"))


def main() -> int:
    """Run what the ladder lacks, fit it, print the claims, and return 0 when all hold."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    store = Store(FOLDER / "store")
    ladder = Ladder(store, FOLDER)
    for size, rates in SWEEPS.items():
        for lr in rates:
            print(f"{size} at {lr:g}: {ladder.loss(Rung(size, SHORTEST, lr)):.4f}", flush=True)
    swept = ladder_in(store, None)
    for size, tokens in OTHERS:
        rate = rate_for(swept, count_parameters(size, VOCABULARY)).lr  # type: ignore[arg-type]
        loss = ladder.loss(Rung(size, tokens, float(f"{rate:.2g}")))
        print(f"{size} on {tokens:,} tokens at {rate:.2g}: {loss:.4f}", flush=True)
    picture = os.environ.get("SCALE_PLOT")
    scale(store=store.root, plot=Path(picture) if picture else None)
    found = trial_of(ladder_in(store, None))
    off = abs(found.expected.value / found.test.loss - 1)
    width = (found.expected.high - found.expected.low) / found.test.loss
    claims = [
        claim("runs fitted", len(found.fitted), 8, at_most=False),
        claim("held-out larger run inside the predicted interval (1: yes)", float(found.holds), 1, at_most=False),
        claim("its loss against the prediction, relative error", off, 0.05),
        claim("width of the interval, as a share of the loss", width, 0.2),
    ]
    print(json.dumps({"name": "scale", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
