"""What is checked before a request is read: whom it names as host, whose key it carries, how large it is."""

import asyncio
import hmac
import ipaddress
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect, Request
from starlette.types import ASGIApp, Receive, Scope, Send

from pipelines.serving.refusal import Refusal

MAX_BODY_BYTES = 1_000_000
BODY_SECONDS = 30.0


def is_loopback(host: str) -> bool:
    """Return whether only this machine can reach a server on `host`."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """Refuses requests without the key and, where there is no key, those that name a foreign host.

    A web page that resolves its own name to 127.0.0.1 could otherwise talk to the server through a visitor's browser.
    """

    def __init__(self, app: ASGIApp, api_key: str | None) -> None:
        self.app = app
        self._key = api_key.encode() if api_key else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it with a refusal."""
        refusal = self._refusal(scope) if scope["type"] == "http" else None
        if refusal is None:
            await self.app(scope, receive, send)
        else:
            await refusal.response()(scope, receive, send)

    def _refusal(self, scope: Scope) -> Refusal | None:
        headers = Headers(scope=scope)
        if self._key is None:
            return (
                None
                if is_loopback(host_name(headers.get("host", "")))
                else Refusal(403, "without an API key this server answers to loopback names only")
            )
        if scope["path"] == "/health":
            return None
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and hmac.compare_digest(key.strip().encode("latin-1"), self._key):
            return None
        return Refusal(
            401, "the API key is missing or wrong", code="invalid_api_key", headers={"WWW-Authenticate": "Bearer"}
        )


def host_name(header: str) -> str:
    """Return the name in a Host header, without its port; empty where it is none."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


async def read_body(request: Request) -> bytes:
    """Return the request's JSON body; raise Refusal where it is too large, too slow or not said to be JSON."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise Refusal(415, "send the body as application/json", code="unsupported_media_type")
    if int(request.headers.get("content-length", "0")) > MAX_BODY_BYTES:
        raise _too_large()
    body = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            async for chunk in request.stream():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    raise _too_large()
    except TimeoutError:
        raise Refusal(
            408, f"the body did not arrive in {BODY_SECONDS:.0f} s", headers={"Connection": "close"}
        ) from None
    except ClientDisconnect:
        raise Refusal(400, "the client left before the body had arrived") from None
    return bytes(body)


def _too_large() -> Refusal:
    message = f"the body is larger than {MAX_BODY_BYTES:,} bytes"
    return Refusal(413, message, code="request_too_large", headers={"Connection": "close"})
