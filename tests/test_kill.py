"""SIGKILL in every stage of smoke: the rerun needs no flag, redoes nothing finished, and ends in the same bytes."""

import json
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store, damaged_files
from pipelines.products import full
from pipelines.recipes import smoke

pytestmark = pytest.mark.slow
ROOT = Path(__file__).resolve().parents[1]
SEED = 20261122


class Rehearsal:
    """A process that has imported everything and forks a child for every attempt."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.errors = (folder / "errors.txt").open("w+")
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.rehearsal"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            text=True,
            cwd=ROOT,
        )

    def attempt(
        self, store: str, node: str, kill_at: int | None = None, kill_after: float | None = None
    ) -> tuple[int, dict[str, Any]]:
        """Return the signal that ended the attempt (0 for none) and what it told."""
        answer = self.folder / "answer.json"
        request = {
            "store": str(self.folder / store),
            "node": node,
            "kill_at": kill_at,
            "kill_after": kill_after,
            "answer": str(answer),
        }
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, self.told()
        ended = json.loads(line)
        assert ended["signal"] in (0, signal.SIGKILL), self.told()
        assert ended["signal"] or ended["status"] == 0, self.told()
        return ended["signal"], json.loads(answer.read_text()) if answer.exists() else {}

    def told(self) -> str:
        """Return the end of what the attempts said on standard error."""
        self.errors.flush()
        return (self.folder / "errors.txt").read_text()[-3000:]

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        self.process.wait(timeout=30)
        self.process.stdout.close()
        self.errors.close()


@pytest.fixture(scope="module")
def rehearsal(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rehearsal]:
    made = Rehearsal(tmp_path_factory.mktemp("rehearsal"))
    yield made
    made.close()


def nodes() -> list[str]:
    planner = Planner(Store(Path("nowhere")))
    full(smoke(), planner)
    return [row.node for row in planner.rows]


@pytest.mark.parametrize("node", nodes())
def test_a_stage_killed_three_times_ends_in_the_bytes_of_an_undisturbed_run(node: str, rehearsal: Rehearsal) -> None:
    _, undisturbed = rehearsal.attempt("undisturbed", node)
    moments = random.Random(f"{SEED} {node}")
    first, last = undisturbed["first_commit"] + 1, undisturbed["publication"]
    later = min(3, last) if undisturbed["first_commit"] else last  # a resumed attempt may have little left to do
    for number in range(3):
        at = moments.randint(first, last) if number == 0 else moments.randint(1, later)
        ended, _ = rehearsal.attempt("killed", node, kill_at=at)
        assert ended == signal.SIGKILL, f"no kill landed at touch {at}"
    if undisturbed["seconds"] > 1:  # and once in the middle of computing, wherever that is
        rehearsal.attempt("killed", node, kill_after=moments.uniform(0.1, 0.9) * undisturbed["seconds"])
    _, after = rehearsal.attempt("killed", node)
    assert after["outputs"] == undisturbed["outputs"]
    assert all(hit for name, hit in after["hits"].items() if name != node), "a finished stage was redone"
    store = Store(rehearsal.folder / "killed")
    for manifest in store.manifests():
        assert damaged_files(store.folder(manifest.stage, manifest.key), manifest) == []
