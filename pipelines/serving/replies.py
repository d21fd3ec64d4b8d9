"""Completions in the form of OpenAI's API: one JSON object, or server-sent events."""

import asyncio
import json
import logging
import secrets
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from fastapi import Request
from fastapi.responses import JSONResponse
from starlette.responses import Response, StreamingResponse

from pipelines.serving.engine import Piece
from pipelines.serving.refusal import Refusal
from pipelines.serving.worker import Job

logger = logging.getLogger(__name__)

FAILED = Refusal(500, "the model could not complete this prompt", kind="server_error", code="generation_failed")


@dataclass
class Reply:
    """What every object of one reply repeats, and the tokens counted so far."""

    model: str
    prompt_tokens: int
    chat: bool
    completion_tokens: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    serial: str = field(default_factory=lambda: secrets.token_hex(12))

    def head(self, kind: str) -> dict[str, object]:
        """Return the fields that come before the choices."""
        prefix = "chatcmpl" if self.chat else "cmpl"
        return {"id": f"{prefix}-{self.serial}", "object": kind, "created": self.created, "model": self.model}

    def usage(self) -> dict[str, int]:
        """Return the count of tokens."""
        total = self.prompt_tokens + self.completion_tokens
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": total,
        }

    def whole(self, pieces: list[Piece]) -> dict[str, object]:
        """Return the reply as one object."""
        choices = []
        for index in sorted({piece.choice for piece in pieces}):
            own = [piece for piece in pieces if piece.choice == index]
            text = "".join(piece.text for piece in own)
            content = {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
            choices.append({"index": index, **content, "logprobs": None, "finish_reason": own[-1].ended})
        kind = "chat.completion" if self.chat else "text_completion"
        return {**self.head(kind), "choices": choices, "usage": self.usage()}

    def chunk(self, choice: int, text: str | None, ended: str | None) -> dict[str, object]:
        """Return one event's object; a chat's first carries the role and a last one no text."""
        content: dict[str, object] = {"text": text or ""}
        if self.chat:
            content = {"delta": {} if text is None else {"content": text}}
        kind = "chat.completion.chunk" if self.chat else "text_completion"
        return {
            **self.head(kind),
            "choices": [{"index": choice, **content, "logprobs": None, "finish_reason": ended}],
        }

    def opening(self, choice: int) -> dict[str, object]:
        """Return the event that opens a chat's choice."""
        delta = {"role": "assistant", "content": ""}
        choices = [{"index": choice, "delta": delta, "logprobs": None, "finish_reason": None}]
        return {**self.head("chat.completion.chunk"), "choices": choices}


async def collect(request: Request, job: Job, reply: Reply) -> Response:
    """Return the whole reply; a client that leaves before cancels it."""
    watcher = asyncio.create_task(_cancel_when_gone(request, job))
    try:
        pieces = [piece async for piece in job.pieces()]
    except Exception:  # noqa: BLE001 - the worker has logged what it was
        raise FAILED from None
    finally:
        watcher.cancel()
    reply.completion_tokens = sum(piece.tokens for piece in pieces)
    return JSONResponse(reply.whole(pieces))


async def _cancel_when_gone(request: Request, job: Job) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
    job.cancelled.set()


def stream(job: Job, reply: Reply, *, include_usage: bool) -> Response:
    """Return the reply as server-sent events, `[DONE]` last; the response ends the job when its client leaves."""
    events = _events(job, reply, include_usage=include_usage)
    return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-store"})


async def _events(job: Job, reply: Reply, *, include_usage: bool) -> AsyncIterator[str]:
    opened = -1
    more: dict[str, object] = {"usage": None} if include_usage else {}
    try:
        async for piece in job.pieces():
            if reply.chat and piece.choice > opened:
                opened = piece.choice
                yield _event({**reply.opening(piece.choice), **more})
            if piece.text:
                yield _event({**reply.chunk(piece.choice, piece.text, None), **more})
            if piece.ended:
                reply.completion_tokens += piece.tokens
                yield _event({**reply.chunk(piece.choice, None, piece.ended), **more})
        if include_usage:
            kind = "chat.completion.chunk" if reply.chat else "text_completion"
            yield _event({**reply.head(kind), "choices": [], "usage": reply.usage()})
    except Exception:  # noqa: BLE001 - the status is sent already, so the failure goes into the stream
        yield _event(FAILED.as_json())
    yield "data: [DONE]\n\n"


def _event(content: dict[str, object]) -> str:
    return f"data: {json.dumps(content, ensure_ascii=False)}\n\n"
