"""The HTTP interface: OpenAI's chat and text completions, whole or streamed, over one worker."""

import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.responses import Response

from pipelines.serving.engine import Engine, Sampling
from pipelines.serving.guard import Guard, read_body
from pipelines.serving.prompts import Prompter
from pipelines.serving.refusal import Refusal, invalid_fields, too_long
from pipelines.serving.replies import Reply, collect, stream
from pipelines.serving.schema import ChatRequest, CompletionSettings, TextRequest
from pipelines.serving.worker import Busy, Job, Stopping, Worker

Body = TypeVar("Body", bound=CompletionSettings)


class Service:
    """A served model: its name, its engine and its worker."""

    def __init__(self, name: str, engine: Engine, places: int) -> None:
        self.name, self.engine = name, engine
        self.worker = Worker(engine, places)
        self.started = int(time.time())

    def submit(self, prompt: list[int], request: CompletionSettings) -> Job:
        """Queue a request's completion; raise Refusal where it does not fit the model or the queue."""
        room = self.engine.context - len(prompt)
        wanted = request.wanted if request.wanted is not None else max(room, 1)
        if wanted > room:
            param = "messages" if isinstance(request, ChatRequest) else "prompt"
            raise too_long(len(prompt), wanted, self.engine.context, param)
        try:
            return self.worker.submit(prompt, sampling(request, wanted))
        except Busy as busy:
            raise Refusal(
                429, str(busy), kind="rate_limit_error", code="queue_full", headers={"Retry-After": str(busy.seconds)}
            ) from None
        except Stopping:
            raise Refusal(503, "the server is shutting down", kind="server_error", code="shutting_down") from None


def sampling(request: CompletionSettings, max_tokens: int) -> Sampling:
    """Return how to draw; a field given as null has its default, and a request without a seed draws a fresh one."""
    return Sampling(
        max_tokens=max_tokens,
        temperature=1.0 if request.temperature is None else request.temperature,
        top_p=1.0 if request.top_p is None else request.top_p,
        seed=secrets.randbits(62) if request.seed is None else request.seed,
        stops=request.stops,
        choices=request.n or 1,
    )


def build_app(name: str, folder: Path, *, api_key: str | None = None, places: int, device: str = "cpu") -> FastAPI:
    """Return the application that serves the model in `folder`; ending it finishes the queued requests."""
    engine = Engine(folder, device)
    prompter = Prompter(folder, engine.tokenizer)
    service = Service(name, engine, places)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.worker.stop)

    app = FastAPI(title="Gristmill", lifespan=lifespan, openapi_url=None)
    app.state.service = service
    app.add_middleware(Guard, api_key=api_key)
    _refuse_in_form(app)

    @app.get("/health")
    async def health() -> dict[str, object]:
        return {"status": "ok", "model": name, "requests": service.worker.taken}

    card = {"id": name, "object": "model", "created": service.started, "owned_by": "gristmill"}

    @app.get("/v1/models")
    async def models() -> dict[str, object]:
        return {"object": "list", "data": [card]}

    @app.get("/v1/models/{model}")
    async def model_card(model: str) -> dict[str, object]:
        _known(model, name)
        return card

    @app.post("/v1/chat/completions")
    async def chat_completions(request: Request) -> Response:
        body = await _parsed(request, ChatRequest)
        _known(body.model, name)
        prompt = await run_in_threadpool(prompter.chat, body.messages)
        return await _answer(request, body, service.submit(prompt, body), Reply(name, len(prompt), chat=True))

    @app.post("/v1/completions")
    async def completions(request: Request) -> Response:
        body = await _parsed(request, TextRequest)
        _known(body.model, name)
        prompt = await run_in_threadpool(prompter.text, body.prompt)
        return await _answer(request, body, service.submit(prompt, body), Reply(name, len(prompt), chat=False))

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


def _known(model: str, name: str) -> None:
    if model != name:
        message = f"the model {model[:64]!r} does not exist; this server has {name!r}"
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
