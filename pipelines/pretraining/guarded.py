"""Runs a module's `main` in a process that dies with the one that started it: `python -m ... MODULE FOLDER`."""

import importlib
import os
import signal
import sys
import threading
from pathlib import Path


def die_with_parent() -> None:
    """Kill this process when standard input ends.

    The other end of that pipe is held by the process that asked for the run and by no other, so the kernel closes it
    however that one dies; the pipe is handed on to the processes that this one starts.
    """

    def watch() -> None:
        while os.read(sys.stdin.fileno(), 1):
            pass
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, name="guard", daemon=True).start()


def main() -> None:
    """Run the named module under the guard, which comes before the seconds that loading torch takes."""
    die_with_parent()
    importlib.import_module(sys.argv[1]).main(Path(sys.argv[2]))


if __name__ == "__main__":
    main()
