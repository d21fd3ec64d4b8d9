"""`gristmill serve`: a bundle behind an OpenAI-compatible endpoint until the process is told to stop."""

import os
import socket
from collections.abc import Callable
from pathlib import Path

import uvicorn

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.store import Store
from pipelines.serving.app import build_app
from pipelines.serving.current import Current
from pipelines.serving.follow import Follower
from pipelines.serving.guard import is_loopback
from pipelines.serving.listening import address_of, bind, quiet_end
from pipelines.serving.served import Served

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
    follow: Store | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve the bundle and return when SIGTERM or SIGINT has come and the running requests are answered.

    With `follow` it goes over to each model that is promoted in that store.
    `ready` is told the address once requests are taken. Raises UserError for a bundle that does not hold together, an
    address that cannot be had, and a host that others reach where there is no API key.
    """
    api_key = api_key or os.environ.get(KEY_VARIABLE) or None
    with listen(host, port, api_key) as listener:
        server = make_server(bundle, precision, api_key, follow=follow)
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
    bundle: Path,
    precision: str | None = None,
    api_key: str | None = None,
    places: int = PLACES,
    *,
    follow: Store | None = None,
) -> uvicorn.Server:
    """Return a server of the bundle in its default precision or another; at most `places` requests wait or run.

    With `follow` it goes over to each model that is promoted in that store, in the same precision.
    """

    def load(folder: Path) -> Served:
        return Served(folder, precision, places)

    current = Current(load(bundle))
    app = build_app(current, api_key=api_key, follower=Follower(follow, current, load) if follow else None)
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
