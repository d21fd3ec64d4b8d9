"""`gristmill serve`: a bundle behind an OpenAI-compatible endpoint until the process is told to stop."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from pipelines.artifacts.errors import UserError
from pipelines.serving.app import build_app
from pipelines.serving.bundle import open_bundle
from pipelines.serving.guard import is_loopback
from pipelines.serving.listening import address_of, bind, quiet_end

KEY_VARIABLE = "GRISTMILL_API_KEY"
DRAIN_SECONDS = 60
PLACES = 16


def serve(
    bundle: Path,
    host: str = "127.0.0.1",
    port: int = 8000,
    precision: str | None = None,
    api_key: str | None = None,
    *,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the bundle and return when SIGTERM or SIGINT has come and the running requests are answered.

    `ready` is told the address once requests are taken. Raises UserError for a bundle that does not hold together, an
    address that cannot be had, and a host that others reach where there is no API key.
    """
    api_key = api_key or os.environ.get(KEY_VARIABLE) or None
    with listen(host, port, api_key) as listener:
        server = make_server(bundle, precision, api_key)
        if ready:
            ready(address_of(listener))
        with quiet_end():
            server.run(sockets=[listener])


def listen(host: str, port: int, api_key: str | None) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one."""
    if not api_key and not is_loopback(host):
        raise UserError(f"host: {host!r} is reached by others and there is no API key; set {KEY_VARIABLE}")
    return bind(host, port)


def make_server(
    bundle: Path, precision: str | None = None, api_key: str | None = None, places: int = PLACES
) -> uvicorn.Server:
    """Return a server of the bundle in its default precision or another; at most `places` requests wait or run."""
    opened = open_bundle(bundle)
    app = build_app(opened.name, opened.model(precision), api_key=api_key, places=places)
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=30,
            timeout_graceful_shutdown=DRAIN_SECONDS,
        )
    )
