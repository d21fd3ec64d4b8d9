"""What the demo promises: its time and memory, the time of a second run, of a plan, and that the model learned.

Whole processes are timed from outside. The second run is timed five times without a Prefect server and five times
with one on loopback; medians count. The last line is one JSON object.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from support.claims import claim

RUNS = 5
PORT = 4299
GIB = 1 << 30
GRISTMILL = str(Path(sys.executable).with_name("gristmill"))


def timed(arguments: list[str], environment: dict[str, str]) -> tuple[float, list[dict[str, Any]]]:
    """Return the wall seconds of a command and the rows that it printed."""
    started = time.perf_counter()
    done = subprocess.run([GRISTMILL, *arguments, "--json"], env=environment, stdout=subprocess.PIPE, check=True)
    return time.perf_counter() - started, json.loads(done.stdout)


def median_of(arguments: list[str], environment: dict[str, str]) -> tuple[float, list[dict[str, Any]]]:
    """Return the median wall seconds of several runs and the rows of the last."""
    runs = [timed(arguments, environment) for _ in range(RUNS)]
    return statistics.median(seconds for seconds, _ in runs), runs[-1][1]


@contextmanager
def server(environment: dict[str, str]) -> Iterator[dict[str, str]]:
    """Run a Prefect server on loopback and yield an environment that points to it."""
    prefect = str(Path(sys.executable).with_name("prefect"))
    command = [prefect, "server", "start", "--host", "127.0.0.1", "--port", str(PORT), "--no-ui"]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{PORT}/api/health", timeout=1).close()
                break
            except OSError:
                time.sleep(0.5)
        yield environment | {"PREFECT_API_URL": f"http://127.0.0.1:{PORT}/api"}
    finally:
        process.terminate()
        process.wait(timeout=60)


def score(path: str, task: str, metric: str) -> dict[str, float]:
    """Return one score of an artifact."""
    scores = json.loads((Path(path) / "scores" / "scores.json").read_text())["scores"]
    return next(item for item in scores if item["task"] == task and item["metric"] == metric)


def main(folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    environment = os.environ | {"PREFECT_HOME": str(folder / "prefect")}
    store = ["--store", str(folder / "store"), "--recipe", "demo"]
    first, built = timed(["run", *store], environment)
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / GIB
    again, rows = median_of(["run", *store], environment)
    with server(environment) as served:
        timed(["run", *store], served)  # the first run on a new server also creates its tables' first rows
        with_server, _ = median_of(["run", *store], served)
    plan, _ = median_of(["plan", *store], environment)
    paths = {row["node"]: row["path"] for row in built}
    ours = score(paths["evaluate.base"], "docs_heldout", "bits_per_byte")
    gram = score(paths["evaluate.base"], "docs_heldout_byte4gram", "bits_per_byte")
    reward = score(paths["reward"], "reward", "accuracy")
    margin = score(paths["align"], "dpo", "margin")
    claims = [
        claim("demo, from an empty store, seconds", first, 600),
        claim("demo, peak memory of the largest process, GiB", peak, 6),
        claim("second run, stages built", sum(row["state"] == "built" for row in rows), 0),
        claim("second run, the work itself, seconds", sum(row["seconds"] for row in rows), 3),
        claim("second run, no server running, seconds", again, 25),
        claim("second run, a server running, seconds", with_server, 6),
        claim("plan, seconds", plan, 2),
        claim("held-out bits per byte, against a byte 4-gram", ours["value"], gram["value"], peer=gram["value"]),
        claim("reward accuracy, lower end of its interval", reward["low"], 0.5, at_most=False),
        claim("DPO margin, lower end of its interval", margin["low"], 0, at_most=False),
    ]
    print(json.dumps({"name": "demo", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
