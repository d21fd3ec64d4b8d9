"""Prefect's server application with ours around it: whom it answers, how it starts and ends."""

import asyncio
import logging
import os
import socket
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import Any
from urllib.parse import urlsplit

import uvicorn
from fastapi import FastAPI
from prefect.client.orchestration import get_client
from prefect.server.api.server import create_app
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from deployments.preparation import prepare
from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.progress import say
from pipelines.serving.guard import host_name, is_loopback
from pipelines.serving.listening import quiet_end

HINT_SECONDS = 5
GRACE_SECONDS = 3
"""A browser's and a runner's open connections are cut so long after the signal."""
POLICY = "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; " + (
    "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; connect-src 'self' {api} {sockets}"
)
"""What a page of the server may load. Prefect's UI calls an analytics service, even with analytics off."""


def run_app(listener: socket.socket, url: str, locked: bool) -> None:
    """Serve until SIGTERM or SIGINT; raise StageFailed where the server cannot start.

    `locked` says that an auth string is set; without one only requests that name a loopback host are answered.
    """
    app = create_app(final=True)
    # Around the application and not in it: its own automations ask it in memory, by a name that is no host.
    server = PreparedServer(app, Doors(app, url, locked), url)
    with quiet_end(), suppress(SystemExit):  # uvicorn's word for a start that failed, which is told below
        server.run(sockets=[listener])
    if server.failure is not None:
        cause = (str(server.failure) or type(server.failure).__name__).splitlines()[0]
        raise StageFailed(f"server: {cause}; see --database and PREFECT_HOME")


class PreparedServer(uvicorn.Server):
    """A server that says what it waits for, is prepared once it answers, and keeps what stopped it."""

    def __init__(self, app: FastAPI, doors: ASGIApp, url: str) -> None:
        super().__init__(
            uvicorn.Config(doors, log_config=None, access_log=False, timeout_graceful_shutdown=GRACE_SECONDS)
        )
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)  # what stops the start is told in one line
        self.url = url
        self.failure: Exception | None = None
        self.preparing: asyncio.Task[None] | None = None
        self._keep_failure(app)

    def _keep_failure(self, app: FastAPI) -> None:
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(app: FastAPI) -> AsyncIterator[Any]:
            async with AsyncExitStack() as stack:
                try:
                    state = await stack.enter_async_context(inner(app))
                except Exception as error:
                    self.failure = error
                    raise
                yield state

        app.router.lifespan_context = lifespan

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, with a line now and then as long as it takes, and then prepare."""
        hints = asyncio.create_task(self._hint())
        try:
            await super().startup(sockets)
        finally:
            hints.cancel()
        if self.started:
            self.preparing = asyncio.create_task(self._prepare())

    async def _hint(self) -> None:
        started = time.monotonic()
        while True:
            await asyncio.sleep(HINT_SECONDS)
            seconds = time.monotonic() - started
            say(f"server: preparing the database, {seconds:.0f} s; an empty one takes about half a minute")

    async def _prepare(self) -> None:
        try:
            async with get_client() as client:
                await prepare(client)
        except Exception as error:  # noqa: BLE001 - told as one line by run_app
            self.failure, self.should_exit = error, True
            return
        say(f"server ready at {self.url}; next: PREFECT_API_URL={self.url}/api gristmill deploy (Ctrl-C stops it)")


class Doors:
    """Lets in whom the server is for, and lets its pages out to nobody else.

    A web page that resolves its own name to 127.0.0.1 could otherwise read a server without an auth string through a
    visitor's browser.
    """

    def __init__(self, app: ASGIApp, url: str, locked: bool) -> None:
        self.app, self.locked = app, locked
        api = urlsplit(os.environ.get("PREFECT_UI_API_URL") or url)
        self.policy = POLICY.format(
            api=f"{api.scheme}://{api.netloc}", sockets=f"{api.scheme.replace('http', 'ws')}://{api.netloc}"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or refuse it."""
        if scope["type"] == "lifespan" or self.locked or is_loopback(host_name(Headers(scope=scope).get("host", ""))):
            return await self.app(scope, receive, self._marked(send))
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        text = b"without an auth string this server answers to loopback names only"
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
        await send({"type": "http.response.start", "status": 403, "headers": headers})
        return await send({"type": "http.response.body", "body": text})

    def _marked(self, send: Send) -> Send:
        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers["content-security-policy"] = self.policy
            await send(message)

        return marked
