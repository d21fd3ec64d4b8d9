"""`gristmill server` in real processes: its settings, whom it answers, and its mistakes as one line."""

import asyncio
import http.server
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings

from deployments.prefect_settings import HEARTBEAT_SECONDS, SILENT_SECONDS
from deployments.preparation import GPU, ZOMBIES, prepare
from deployments.server import connection_url
from pipelines.artifacts.errors import UserError
from tests.deployments.conftest import Server
from tests.deployments.servers import ROOT, Api, Running, session_of


def gristmill(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [sys.executable, "-m", "deployments.cli", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, timeout=300, check=False, env={**clean, **environment}
    )


def one_line(done: subprocess.CompletedProcess[str], status: int, *words: str) -> None:
    assert done.returncode == status, done.stdout + done.stderr
    assert len(done.stderr.strip().splitlines()) == 1, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr


@pytest.mark.slow
def test_the_server_has_our_settings(prefect_server: Server) -> None:
    url, api = prefect_server.api.url.removesuffix("/api"), prefect_server.api
    assert url.startswith("http://127.0.0.1:")
    settings = api.ask("GET", "/admin/settings")["server"]
    assert not settings["analytics_enabled"] and not settings["ui"]["show_promotional_content"]
    assert settings["api"]["csrf_protection_enabled"]
    assert settings["concurrency"]["lease_storage"].endswith(".filesystem"), "a killed server frees places all the same"
    assert api.ask("GET", f"/v2/concurrency_limits/{GPU}")["limit"] == 1
    zombies = [item for item in api.ask("POST", "/automations/filter") if item["name"] == ZOMBIES]
    assert [item["trigger"]["within"] for item in zombies] == [SILENT_SECONDS]
    assert 3 * HEARTBEAT_SECONDS < SILENT_SECONDS <= 110, "a run is Crashed within two minutes, a live one never"
    page = httpx.get(url, follow_redirects=True)
    assert "connect-src 'self'" in page.headers["content-security-policy"]


@pytest.mark.slow
def test_the_server_answers_nobody_but_this_machine(prefect_server: Server) -> None:
    url = prefect_server.api.url
    assert httpx.post(f"{url}/flows/filter", json={}).status_code == 403, "no CSRF token"
    assert httpx.get(f"{url}/health", headers={"Host": "evil.example"}).status_code == 403
    answer = httpx.get(f"{url}/health", headers={"Origin": "http://evil.example"})
    assert "access-control-allow-origin" not in answer.headers
    port = int(url.rsplit(":", 1)[1].removesuffix("/api"))
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    addresses = {row[1] for row in rows if row[3] == "0A"}
    assert f"0100007F:{port:04X}" in addresses and f"00000000:{port:04X}" not in addresses


async def _prepare_again(url: str) -> None:
    with temporary_settings({PREFECT_API_URL: url}):
        async with get_client() as client:
            await prepare(client)


@pytest.mark.slow
def test_what_somebody_changed_stays_when_the_server_starts_again(prefect_server: Server) -> None:
    api = prefect_server.api
    api.ask("PATCH", f"/v2/concurrency_limits/{GPU}", limit=3)
    asyncio.run(_prepare_again(api.url))
    assert api.ask("GET", f"/v2/concurrency_limits/{GPU}")["limit"] == 3
    api.ask("PATCH", f"/v2/concurrency_limits/{GPU}", limit=1)
    assert len([item for item in api.ask("POST", "/automations/filter") if item["name"] == ZOMBIES]) == 1


@pytest.mark.slow
def test_a_wrong_auth_string_is_one_line_and_the_right_one_is_let_in(prefect_home: Path, tmp_path: Path) -> None:
    shutil.copytree(prefect_home, tmp_path / "home")
    home = {"PREFECT_HOME": str(tmp_path / "home")}
    running = Running(
        ["deployments.cli", "server", "--port", "0"], home | {"PREFECT_SERVER_API_AUTH_STRING": "admin:right"}
    )
    pid = running.process.pid
    try:
        url = running.line(r"server ready at (\S+);", 120)[1] + "/api"
        there = home | {"PREFECT_API_URL": url, "GRISTMILL_STORE": str(tmp_path / "store")}
        wrong = there | {"PREFECT_API_AUTH_STRING": "admin:wrong"}
        for environment, words in ((there, "without one"), (wrong, "that is set")):
            done = gristmill("deploy", "--pool", "there", **environment)
            one_line(done, 2, "PREFECT_API_AUTH_STRING", words)
            assert "wrong;" not in done.stderr
        one_line(gristmill("run", "dedup-only", "--recipe", "smoke", **wrong), 2, "PREFECT_API_AUTH_STRING")
        api = Api(url, auth=("admin", "right"))
        assert api.ask("GET", "/admin/version")
        api.close()
    finally:
        status = running.end()
    assert status == 0 and not session_of(pid)


@pytest.fixture
def older_server() -> Iterator[str]:
    """Something that says it is Prefect 3.2.0, as the version is all that is asked."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps("3.2.0").encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/api"
    server.shutdown()
    server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("command", [("deploy",), ("run", "dedup-only", "--recipe", "smoke")])
def test_a_server_of_another_version_is_one_line(command: tuple[str, ...], older_server: str, tmp_path: Path) -> None:
    environment = {"PREFECT_API_URL": older_server, "PREFECT_HOME": str(tmp_path), "GRISTMILL_STORE": str(tmp_path)}
    one_line(gristmill(*command, **environment), 2, "3.2.0", "prefect==3.2.0")


@pytest.mark.slow
@pytest.mark.parametrize("command", [("deploy",), ("run", "dedup-only", "--recipe", "smoke")])
def test_a_server_that_is_down_is_one_line(command: tuple[str, ...], tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{free.getsockname()[1]}/api"
    environment = {"PREFECT_API_URL": dead, "PREFECT_HOME": str(tmp_path), "GRISTMILL_STORE": str(tmp_path)}
    one_line(gristmill(*command, **environment), 1, dead, "gristmill server")


def test_deploying_to_no_server_says_how_to_start_one(tmp_path: Path) -> None:
    done = gristmill("deploy", PREFECT_HOME=str(tmp_path), GRISTMILL_STORE=str(tmp_path))
    one_line(done, 2, "PREFECT_API_URL", "gristmill server")


def test_a_host_that_others_reach_needs_an_auth_string() -> None:
    one_line(gristmill("server", "--host", "192.0.2.1"), 2, "--host", "PREFECT_SERVER_API_AUTH_STRING")


def test_a_port_in_use_is_one_line() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        one_line(gristmill("server", "--port", str(port)), 2, str(port), "--port")


@pytest.mark.slow
def test_a_database_that_cannot_be_reached_is_one_line(tmp_path: Path) -> None:
    url = "postgresql://nobody:hidden@127.0.0.1:1/none"
    done = gristmill("server", "--port", "0", "--database", url, PREFECT_HOME=str(tmp_path))
    assert done.returncode == 1 and "--database" in done.stderr.splitlines()[-1], done.stderr
    assert "hidden" not in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("postgresql://me@host/name", "postgresql+asyncpg://me@host/name"),
        ("postgres://host/name", "postgresql+asyncpg://host/name"),
        ("sqlite:////tmp/x.db", "sqlite+aiosqlite:////tmp/x.db"),
    ],
)
def test_a_database_is_named_as_everybody_names_it(given: str, taken: str) -> None:
    assert connection_url(given) == taken


@pytest.mark.parametrize("given", ["mysql://me:word@host/name", "/tmp/x.db"])
def test_a_database_of_another_kind_is_refused_without_its_password(given: str) -> None:
    with pytest.raises(UserError, match="--database") as refused:
        connection_url(given)
    assert "word" not in str(refused.value)
