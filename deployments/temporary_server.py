"""The server that Prefect starts for a run where none is named, under a guard: it is gone when the run is."""

import os
import subprocess
import sys
from typing import Any

from prefect.server.api.server import SubprocessASGIServer
from prefect.settings import get_current_settings


class GuardedServer(SubprocessASGIServer):
    """Prefect's own temporary server, which a killed run would leave behind.

    Prefect keeps one such server a process: made before a run starts, this is the one.
    """

    def _run_uvicorn_command(self) -> subprocess.Popen[Any]:
        return subprocess.Popen(
            [sys.executable, "-m", "pipelines.artifacts.guard", "deployments.temporary_server", str(self.port)],
            stdin=subprocess.PIPE,
            env={
                **os.environ,
                **get_current_settings().to_environment_variables(exclude_unset=True),
                "PREFECT_UI_ENABLED": "0",
                "PREFECT__SERVER_EPHEMERAL": "1",
                "PREFECT__SERVER_FINAL": "1",
            },
        )


def main(port: str) -> None:
    """Serve on loopback."""
    import uvicorn

    application = "prefect.server.api.server:create_app"
    uvicorn.run(application, factory=True, host="127.0.0.1", port=int(port), log_level="error", lifespan="on")
