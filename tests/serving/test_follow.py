"""An endpoint that follows the registry: no request fails while the model is changed, and a bad one changes nothing."""

import gc
import json
import shutil
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from pipelines.artifacts import registry
from pipelines.artifacts.build import build
from pipelines.artifacts.records import Decision, Promoted
from pipelines.artifacts.stage import Metrics, Stage
from pipelines.artifacts.store import Store
from pipelines.serving.bundle import open_bundle
from pipelines.serving.package import PackageConfig, package
from tests.serving.conftest import ANSWER, QUESTION, Built, entry, publish, write_model

BODY = {"messages": [{"role": "user", "content": QUESTION}], "temperature": 0}


@pytest.fixture(scope="module")
def bundles(built: Built, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two bundles of one name whose models know the same answer, the second learnt in other steps."""
    model = built.store / "align" / ("b" * 64) / "model"
    write_model(model, steps=160)
    publish(built.store, "align", "b" * 64, {"model": entry("filter", "2" * 64)})
    out = tmp_path_factory.mktemp("second")
    package(PackageConfig(name="mill-1", dtype="float32"), model=model, scores=built.scores, out=out)
    return [bundle, out / "bundle"]


def stored(store: Store, bundle: Path, licence: str) -> Promoted:
    """Put a bundle into the store as `package` publishes it; another licence gives it another key."""

    def copied(config: PackageConfig, *, out: Path) -> Metrics:
        shutil.copytree(bundle, out / "bundle")
        return {}

    made = build(store, Stage("package", 1, copied), PackageConfig(name="mill-1", licence=licence), {}, node="package")
    return registry.candidate(store, made.artifact.key)


def promote(store: Store, model: Promoted) -> None:
    registry.promote(store, Decision(challenger=model, champion=registry.current(store), gates=()))


@dataclass
class Followed:
    """An endpoint on loopback that follows the registry of a store with two models."""

    url: str
    store: Store
    models: list[Promoted]
    app: Any


@pytest.fixture
def followed(bundles: list[Path], start: Callable[..., Any], store: Store) -> Iterator[Followed]:
    models = [stored(store, bundle, f"licence-{place}") for place, bundle in enumerate(bundles)]
    promote(store, models[0])
    running = start(follow=store, bundle=models[0].bundle(store))
    yield Followed(running.url, store, models, running.server.config.app)
    running.server.should_exit = True


def serving(url: str) -> str:
    return str(httpx.get(f"{url}/health", timeout=30).json()["key"])


def wait_until_served(url: str, key: str, seconds: float = 60) -> float:
    started = time.monotonic()
    while serving(url) != key:
        assert time.monotonic() - started < seconds, f"{key[:12]} is not served after {seconds} s"
        time.sleep(0.05)
    return time.monotonic() - started


@dataclass
class Asking:
    """Clients that ask again and again, whole and streamed, until told to stop; every answer is kept."""

    url: str
    answers: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    stopped: threading.Event = field(default_factory=threading.Event)

    def ask(self, *, stream: bool) -> None:
        with httpx.Client(timeout=120) as client:
            while not self.stopped.is_set():
                try:
                    self.answers.append(streamed(client, self.url) if stream else whole(client, self.url))
                except (httpx.HTTPError, AssertionError, KeyError, ValueError) as error:
                    self.failures.append(f"{type(error).__name__}: {error}")


def whole(client: httpx.Client, url: str) -> str:
    reply = client.post(f"{url}/v1/chat/completions", json={**BODY, "model": "mill-1"})
    assert reply.status_code == 200, reply.text
    return str(reply.json()["choices"][0]["message"]["content"])


def streamed(client: httpx.Client, url: str) -> str:
    text, lines = "", []
    with client.stream("POST", f"{url}/v1/chat/completions", json={**BODY, "model": "mill-1", "stream": True}) as reply:
        assert reply.status_code == 200
        lines = [line.removeprefix("data: ") for line in reply.iter_lines() if line]
    assert lines[-1] == "[DONE]"
    for line in lines[:-1]:
        text += json.loads(line)["choices"][0]["delta"].get("content", "")
    return text


def test_no_request_fails_through_a_promotion_and_a_rollback(followed: Followed) -> None:
    asking = Asking(followed.url)
    clients = [threading.Thread(target=asking.ask, kwargs={"stream": stream}) for stream in (True, False, True)]
    for client in clients:
        client.start()
    try:
        taken = []
        for move in (lambda: promote(followed.store, followed.models[1]), lambda: registry.rollback(followed.store)):
            enough = len(asking.answers) + 3
            while len(asking.answers) < enough and not asking.failures:
                time.sleep(0.05)
            move()
            now = registry.current(followed.store)
            assert now is not None
            taken.append(wait_until_served(followed.url, now.key))
    finally:
        asking.stopped.set()
        for client in clients:
            client.join(120)
    assert not asking.failures
    assert set(asking.answers) == {ANSWER} and len(asking.answers) >= 6
    print(f"{len(asking.answers)} requests, none failed; swapped after {taken[0]:.1f} s and {taken[1]:.1f} s")


def test_the_endpoint_tells_which_model_answers(followed: Followed) -> None:
    first = followed.models[0]
    health = httpx.get(f"{followed.url}/health").json()
    assert (health["key"], health["digest"]) == (first.key, first.digest)
    (card,) = httpx.get(f"{followed.url}/v1/models").json()["data"]
    assert (card["id"], card["key"], card["digest"]) == ("mill-1", first.key, first.digest)


def test_a_stream_that_has_begun_ends_on_the_model_it_began_with_and_that_is_then_freed(followed: Followed) -> None:
    current = followed.app.state.current
    old, model = weakref.ref(current.served), weakref.ref(current.served.engine.model)
    body = {**BODY, "model": "mill-1", "stream": True, "n": 4}
    with httpx.stream("POST", f"{followed.url}/v1/chat/completions", json=body, timeout=60) as reply:
        lines = reply.iter_lines()
        begun = [next(lines) for _ in range(3)]
        promote(followed.store, followed.models[1])
        wait_until_served(followed.url, followed.models[1].key)
        rest = [line for line in lines if line]
    assert begun and rest[-1] == "data: [DONE]"
    ended = [json.loads(line[6:])["choices"][0] for line in rest[:-1]]
    assert [item["index"] for item in ended if item["finish_reason"] == "stop"] == [0, 1, 2, 3]
    for _ in range(100):
        gc.collect()
        if old() is None and model() is None:
            return
        time.sleep(0.1)
    raise AssertionError("the model that was replaced is still in memory")


def test_a_promoted_bundle_that_does_not_load_keeps_the_old_one_serving_and_is_said_once(
    followed: Followed, capfd: pytest.CaptureFixture[str]
) -> None:
    weights = next(followed.models[1].bundle(followed.store).rglob("*.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    promote(followed.store, followed.models[1])
    time.sleep(3)
    assert serving(followed.url) == followed.models[0].key
    with httpx.Client(timeout=60) as client:
        assert whole(client, followed.url) == ANSWER
    said = [line for line in capfd.readouterr().err.splitlines() if "cannot be served" in line]
    assert len(said) == 1 and "is not the file that was packaged" in said[0] and "goes on" in said[0]


def test_a_damaged_pointer_keeps_the_model_that_serves_and_is_said_once(
    followed: Followed, capfd: pytest.CaptureFixture[str]
) -> None:
    registry.pointer_of(followed.store).write_text("{")
    time.sleep(3)
    with httpx.Client(timeout=60) as client:
        assert whole(client, followed.url) == ANSWER
    said = [line for line in capfd.readouterr().err.splitlines() if "cannot be served" in line]
    assert len(said) == 1 and "is damaged" in said[0]


def test_the_digest_of_a_bundle_is_the_store_s(followed: Followed) -> None:
    for model in followed.models:
        assert open_bundle(model.bundle(followed.store)).digest == model.digest
