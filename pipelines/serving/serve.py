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
from pipelines.serving.app import build_app
from pipelines.serving.bundle import open_bundle
from pipelines.serving.guard import is_loopback

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
