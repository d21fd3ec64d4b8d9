"""`gristmill serve`: a bundle behind an OpenAI-compatible endpoint until the process is told to stop."""

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.store import Store
from pipelines.serving.app import build_app
from pipelines.serving.current import Current
from pipelines.serving.follow import Follower
from pipelines.serving.guard import is_loopback
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
        with _quiet_end():
            server.run(sockets=[listener])


def listen(host: str, port: int, api_key: str | None) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one."""
    if not api_key and not is_loopback(host):
        raise UserError(f"host: {host!r} is reached by others and there is no API key; set {KEY_VARIABLE}")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
    except (OSError, OverflowError) as error:
        raise UserError(f"host: {host}:{port} is no address ({error}); name one of this machine's") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as error:
        listener.close()
        raise UserError(f"port: {host}:{port} cannot be had ({error.strerror}); choose another --port") from None
    return listener


def address_of(listener: socket.socket) -> str:
    """Return the URL that a listening socket answers to."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


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


@contextmanager
def _quiet_end() -> Iterator[None]:
    """Let SIGTERM and SIGINT end the block without an error: uvicorn raises them again once it has drained."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    handled = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, lambda *_: None) for number in handled}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
