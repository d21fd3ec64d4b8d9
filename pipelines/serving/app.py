"""The HTTP interface: OpenAI's chat and text completions, whole or streamed, over the model that is current."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipelines.serving.current import Current
from pipelines.serving.follow import Follower
from pipelines.serving.guard import Guard, read_body
from pipelines.serving.refusal import Refusal, invalid_fields
from pipelines.serving.replies import Reply, collect, stream
from pipelines.serving.schema import ChatRequest, CompletionSettings, TextRequest
from pipelines.serving.served import Served
from pipelines.serving.worker import Job

Body = TypeVar("Body", bound=CompletionSettings)


def build_app(current: Current, *, api_key: str | None = None, follower: Follower | None = None) -> FastAPI:
    """Return the application that serves the current model; ending it finishes the queued requests."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        following = asyncio.create_task(follower.run()) if follower else None
        yield
        if following:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
        await current.end()

    app = FastAPI(title="Gristmill", lifespan=lifespan, openapi_url=None)
    app.state.current = current
    app.add_middleware(Guard, api_key=api_key)
    _refuse_in_form(app)

    @app.get("/health")
    async def health() -> dict[str, object]:
        served = current.served
        return {"status": "ok", "model": served.name, **served.version, "requests": current.requests}

    @app.get("/v1/models")
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [current.served.card]}

    @app.get("/v1/models/{model}")
    async def model_card(model: str) -> dict[str, object]:
        _known(model, current.served)
        return current.served.card

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        body = await _parsed(request, ChatRequest)
        with current.lease() as served:
            _known(body.model, served)
            prompt = await run_in_threadpool(served.prompter.chat, body.messages)
            job = served.submit(prompt, body)
        return await _answer(request, body, job, Reply(served.name, len(prompt), chat=True))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await _parsed(request, TextRequest)
        with current.lease() as served:
            _known(body.model, served)
            prompt = await run_in_threadpool(served.prompter.text, body.prompt)
            job = served.submit(prompt, body)
        return await _answer(request, body, job, Reply(served.name, len(prompt), chat=False))

    return app


async def _answer(request: Request, body: CompletionSettings, job: Job, reply: Reply) -> Response:
    if body.stream:
        return stream(job, reply, include_usage=body.include_usage)
    return await collect(request, job, reply)


async def _parsed(request: Request, schema: type[Body]) -> Body:
    """Return the request's body; raise Refusal where it breaks the schema."""
    try:
        return schema.model_validate_json(await read_body(request))
    except ValidationError as error:
        raise invalid_fields(error) from None


def _known(model: str, served: Served) -> None:
    if model != served.name:
        message = f"the model {model[:64]!r} does not exist; this server has {served.name!r}"
        raise Refusal(404, message, code="model_not_found", param="model")


def _refuse_in_form(app: FastAPI) -> None:
    """Answer every kind of error in OpenAI's form."""

    async def refused(request: Request, error: Exception) -> Response:
        return error.response() if isinstance(error, Refusal) else Response(status_code=500)

    async def not_routed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        return Refusal(status, f"{request.method} {request.url.path} is not served here", code="not_found").response()

    async def failed(request: Request, error: Exception) -> Response:
        return Refusal(500, "the server failed on this request", kind="server_error").response()

    app.add_exception_handler(Refusal, refused)
    app.add_exception_handler(HTTPException, not_routed)
    app.add_exception_handler(Exception, failed)
