"""What Prefect costs a run: a full run of nothing but hits against a running server, a task, and a stage without it.

The store is filled once by the smoke recipe. The whole process counts, its imports included, as that is what a person
waits for. Our task is held against a bare Prefect task in the same flow, in turns; both do nothing.
"""

import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from support.claims import claim

ROUNDS = 5
TASKS = 30
ROOT = Path(__file__).resolve().parents[1]
TURNS = """
import json, sys, time
from pathlib import Path
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from pipelines.artifacts.run import LocalRun
from pipelines.artifacts.store import Store
from pipelines.finetuning.chat import CHAT, ChatConfig
from tasks.bridge import as_task

store, ours = Store(Path(sys.argv[1])), as_task(CHAT)
store.prepare()
LocalRun(store)(CHAT, ChatConfig())

@task(cache_policy=NO_CACHE, persist_result=False)
def bare():
    return None

@flow(persist_result=False)
def turns():
    taken = {"ours": [], "bare": []}
    for _ in range(int(sys.argv[2])):
        for name, call in (("ours", lambda: ours(ChatConfig(), {}, "chat", store, return_state=True)), ("bare", bare)):
            started = time.perf_counter()
            call()
            taken[name].append(time.perf_counter() - started)
    return taken

print(json.dumps(turns()))
"""


@contextmanager
def server(home: Path) -> Iterator[dict[str, str]]:
    """Run `gristmill server` and yield the environment in which commands reach it."""
    environment = {**os.environ, "PREFECT_HOME": str(home)}
    environment.pop("PREFECT_API_URL", None)
    command = [sys.executable, "-m", "deployments.cli", "server", "--port", "0"]
    # Into a file: a pipe that nobody reads on fills up, and the server then stands still.
    log = home.with_suffix(".log")
    with log.open("w") as sink:
        running = subprocess.Popen(
            command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=sink, stderr=sink
        )
    try:
        while not (ready := re.search(r"server ready at ([^;]+);", log.read_text())):
            if running.poll() is not None:
                sys.exit(f"the server ended with status {running.returncode}:\n{log.read_text()}")
            time.sleep(0.1)
        yield {**environment, "PREFECT_API_URL": f"{ready[1]}/api"}
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(timeout=60)


def timed(arguments: list[str], environment: dict[str, str]) -> float:
    """Return the wall seconds of a command line of ours."""
    started = time.perf_counter()
    command = [sys.executable, "-m", "deployments.cli", *arguments]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True)
    return time.perf_counter() - started


def servers_started(arguments: list[str], environment: dict[str, str]) -> int:
    """Return how many processes and listening sockets a command made beside itself."""
    audit = (
        "import sys; seen = []\n"
        "def hook(event, _):\n"
        "    if event in ('subprocess.Popen', 'os.fork', 'os.posix_spawn', 'os.exec', 'socket.bind'):\n"
        "        seen.append(event)\n"
        "sys.addaudithook(hook)\n"
        f"sys.argv = ['gristmill', *{arguments!r}]\n"
        "from deployments.cli import main; main()\n"
        "assert 'prefect' not in sys.modules\n"
        "print('SEEN', len(seen))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", audit], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    )
    return int(done.stdout.rsplit("SEEN ", 1)[1])


def main(folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    store = ["--recipe", "smoke", "--store", str(folder / "store")]
    print(f"filling the store: {timed(['stage', 'report', *store], dict(os.environ)):.0f} s", flush=True)
    with server(folder / "prefect") as environment:
        timed(["run", "full", *store], environment)
        whole = [timed(["run", "full", *store], environment) for _ in range(ROUNDS)]
        print(f"a run of hits: {', '.join(f'{seconds:.2f}' for seconds in whole)} s", flush=True)
        turns = subprocess.run(
            [sys.executable, "-c", TURNS, str(folder / "chat"), str(TASKS)],
            cwd=ROOT, env=environment, check=True, capture_output=True, text=True,
        )  # fmt: skip
        taken = json.loads(turns.stdout.splitlines()[-1])
    ours, bare = (statistics.median(taken[name]) * 1000 for name in ("ours", "bare"))
    print(f"a task of ours {ours:.1f} ms, a bare one {bare:.1f} ms", flush=True)
    started = servers_started(["stage", "report", *store], dict(os.environ))
    claims = [
        claim("full run of hits against a running server, whole process, s", statistics.median(whole), 6),
        claim("our task, a hit, over a bare Prefect task, ms", ours - bare, 30),
        claim("processes and sockets that gristmill stage starts", started, 0),
    ]
    print(json.dumps({"name": "orchestration", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(made)))
