"""What every server here has of its process: a socket, taken before the slow part of its start, and a quiet end."""

import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from pipelines.artifacts.errors import UserError


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that listens; port 0 takes a free one. Raises UserError for an address that cannot be had."""
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


@contextmanager
def quiet_end() -> Iterator[None]:
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
