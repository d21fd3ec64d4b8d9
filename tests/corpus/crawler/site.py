"""A real web server on the loopback interface, with a log of what it was asked for."""

import socket
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

Handler = BaseHTTPRequestHandler
WORDS = " ".join(f"word{number}" for number in range(60))


def html(*links: str, head: str = "", title: str = "Page") -> bytes:
    anchors = "".join(f'<li><a href="{link}">{link}</a></li>' for link in links)
    text = f"<h1>{title}</h1><p>The page {title} says some things at length. {WORDS}</p><ul>{anchors}</ul>"
    return f"<!doctype html><html><head><title>{title}</title>{head}</head><body>{text}</body></html>".encode()


@dataclass
class Reply:
    """What the server sends for a path."""

    body: bytes = b""
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    kind: str = "text/html; charset=utf-8"

    def __call__(self, handler: Handler) -> None:
        handler.send_response(self.status)
        headers = {"Content-Type": self.kind, "Content-Length": str(len(self.body)), **self.headers}
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(self.body)


def redirect(to: str) -> Reply:
    return Reply(b"moved", 302, {"Location": to})


class Site:
    """The server: `pages` maps a path to what is sent, `asked` lists the paths in the order of the requests."""

    def __init__(self, pages: Mapping[str, Callable[[Handler], None]], host: str, delay: float) -> None:
        self.pages = dict(pages)
        self.asked: list[str] = []
        self.hosts: list[str] = []
        self.at: list[float] = []
        self.most_at_once = 0
        self._now = 0
        self._lock = threading.Lock()
        site = self

        class _Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                with site._lock:
                    site.asked.append(self.path)
                    site.hosts.append(self.headers["Host"])
                    site.at.append(time.monotonic())
                    site._now += 1
                    site.most_at_once = max(site.most_at_once, site._now)
                try:
                    time.sleep(delay)
                    site.pages.get(self.path, Reply(b"none", 404))(self)
                except OSError:
                    pass  # the crawler hung up, as it should on some pages
                finally:
                    with site._lock:
                        site._now -= 1

            def log_message(self, format: str, *args: object) -> None:
                pass

        class _Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                pass

        self.server = _Server((host, 0), _Handler)
        self.host, self.port = host, self.server.server_address[1]
        self.scheme = "http"

    def url(self, path: str = "/", host: str | None = None) -> str:
        return f"{self.scheme}://{host or self.host}:{self.port}{path}"

    def times(self) -> Counter[str]:
        return Counter(self.asked)

    def serve_tls(self, certificate: Path) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
        self.scheme = "https"


@contextmanager
def serving(
    pages: Mapping[str, Callable[[Handler], None]],
    *,
    host: str = "127.0.0.1",
    delay: float = 0.0,
    certificate: Path | None = None,
) -> Iterator[Site]:
    """Yield the running site; it is gone when the block ends."""
    site = Site({"/robots.txt": Reply(b"", 404), **pages}, host, delay)
    if certificate:
        site.serve_tls(certificate)
    thread = threading.Thread(target=site.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield site
    finally:
        site.server.shutdown()
        site.server.server_close()
        thread.join()


def raw(*pieces: bytes, pause: float = 0.0, reset: bool = False) -> Callable[[Handler], None]:
    """Return a page that is sent byte by byte as given, then the connection is closed or reset."""

    def send(handler: Handler) -> None:
        for piece in pieces:
            handler.wfile.write(piece)
            handler.wfile.flush()
            time.sleep(pause)
        if reset:
            handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            handler.connection.close()

    return send


def endless(kind: str = "text/html") -> Callable[[Handler], None]:
    """Return a page whose body never ends."""

    def send(handler: Handler) -> None:
        handler.wfile.write(f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n\r\n".encode())
        while True:
            handler.wfile.write(b"<p>more and more</p>" * 500)

    return send
