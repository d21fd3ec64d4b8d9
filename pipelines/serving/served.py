"""A model that is loaded and answers: its name and version, its engine, its prompts and its worker."""

import secrets
import time
from pathlib import Path

from pipelines.serving.bundle import key_of, open_bundle
from pipelines.serving.engine import Engine, Sampling
from pipelines.serving.prompts import Prompter
from pipelines.serving.refusal import Refusal, too_long
from pipelines.serving.schema import ChatRequest, CompletionSettings
from pipelines.serving.worker import Busy, Job, Stopping, Worker


class Served:
    """The model of a bundle, in one precision, with a queue of `places`."""

    def __init__(self, bundle: Path, precision: str | None, places: int, device: str = "cpu") -> None:
        """Load the bundle; raise UserError where it does not hold together."""
        opened = open_bundle(bundle)
        folder = opened.model(precision)
        self.name, self.digest, self.key = opened.name, opened.digest, key_of(bundle)
        self.engine = Engine(folder, device)
        self.prompter = Prompter(folder, self.engine.tokenizer)
        self.worker = Worker(self.engine, places)
        self.started = int(time.time())

    @property
    def version(self) -> dict[str, object]:
        """Which model this is: the key of its artifact, None outside a store, and the digest of its content."""
        return {"key": self.key, "digest": self.digest}

    @property
    def card(self) -> dict[str, object]:
        """What `/v1/models` tells of it."""
        return {
            "id": self.name,
            "object": "model",
            "created": self.started,
            "owned_by": "gristmill",
            **self.version,
        }

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
