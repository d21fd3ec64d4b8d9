"""One server of Prefect a session, started as its users start it."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.deployments.servers import Api, Running, session_of


@dataclass(frozen=True)
class Server:
    """A server that answers."""

    api: Api
    home: Path
    environment: dict[str, str]


@pytest.fixture(scope="session")
def prefect_server(prefect_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """`gristmill server`, started a second time; at the end SIGTERM leaves no process."""
    home = shutil.copytree(prefect_home, tmp_path_factory.mktemp("prefect") / "home")
    running = Running(["deployments.cli", "server", "--port", "0"], {"PREFECT_HOME": str(home)})
    pid = running.process.pid
    try:
        url = running.line(r"server ready at (\S+);", 180)[1] + "/api"
        api = Api(url)
        yield Server(api, home, {"PREFECT_HOME": str(home), "PREFECT_API_URL": url})
        api.close()
    finally:
        status = running.end()
    assert status == 0
    assert not session_of(pid)
