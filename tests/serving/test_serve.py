"""The endpoint as OpenAI's own client and a rude one see it."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from pipelines.artifacts.errors import UserError
from pipelines.serving.serve import listen, serve

QUESTION = "What does the mill do?"
ANSWER = "It grinds wheat 🌾 into flour, STOP and sells it at the market every single day of the year."
ASK: Any = [{"role": "user", "content": QUESTION}]


def connect(url: str, api_key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=api_key, max_retries=0, timeout=60)


@pytest.fixture(scope="module")
def client(running: Any) -> Iterator[openai.OpenAI]:
    with connect(running.url) as client:
        yield client


def test_a_chat_request_is_answered(client: openai.OpenAI) -> None:
    reply = client.chat.completions.create(model="mill-1", messages=ASK, temperature=0)
    assert reply.choices[0].message.content == ANSWER
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage is not None
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + reply.usage.completion_tokens


def test_a_streamed_chat_is_the_same_text_in_whole_characters(client: openai.OpenAI) -> None:
    chunks = list(
        client.chat.completions.create(
            model="mill-1", messages=ASK, temperature=0, stream=True, stream_options={"include_usage": True}
        )
    )
    texts = [choice.delta.content or "" for chunk in chunks for choice in chunk.choices]
    assert "".join(texts) == ANSWER
    assert "🌾" in "".join(texts)
    assert len([text for text in texts if text]) > 20
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage is not None and chunks[-1].usage.completion_tokens > 20


def test_a_stream_ends_with_done(running: Any) -> None:
    body = {"model": "mill-1", "messages": ASK, "temperature": 0, "stream": True}
    with httpx.stream("POST", f"{running.url}/v1/chat/completions", json=body, timeout=60) as response:
        lines = [line for line in response.iter_lines() if line]
    assert response.headers["content-type"].startswith("text/event-stream")
    assert lines[-1] == "data: [DONE]"
    assert all(json.loads(line.removeprefix("data: ")) for line in lines[:-1])


def test_a_text_completion_is_answered_and_streamed(client: openai.OpenAI) -> None:
    whole = client.completions.create(model="mill-1", prompt=ANSWER[:30], temperature=0, max_tokens=12)
    assert whole.choices[0].finish_reason == "length"
    assert whole.usage is not None and whole.usage.completion_tokens == 12
    stream = client.completions.create(model="mill-1", prompt=ANSWER[:30], temperature=0, max_tokens=12, stream=True)
    assert "".join(chunk.choices[0].text for chunk in stream) == whole.choices[0].text


@pytest.mark.parametrize("stream", [False, True])
def test_a_stop_string_is_cut_even_where_tokens_split_it(client: openai.OpenAI, stream: bool) -> None:
    reply: Any = client.chat.completions.create(
        model="mill-1", messages=ASK, temperature=0, stop=["STOP", "never said"], stream=stream
    )
    if stream:
        text = "".join(chunk.choices[0].delta.content or "" for chunk in reply)
    else:
        text = reply.choices[0].message.content
        assert reply.choices[0].finish_reason == "stop"
    assert text == ANSWER[: ANSWER.index("STOP")]


def test_several_choices_come_with_a_seed_that_repeats(client: openai.OpenAI) -> None:
    def texts() -> list[str | None]:
        reply = client.chat.completions.create(
            model="mill-1", messages=ASK, n=3, temperature=2, top_p=0.99, seed=3, max_completion_tokens=9
        )
        assert [choice.index for choice in reply.choices] == [0, 1, 2]
        return [choice.message.content for choice in reply.choices]

    assert texts() == texts()


def test_the_model_is_listed_and_an_unknown_one_is_not_found(client: openai.OpenAI) -> None:
    assert [model.id for model in client.models.list()] == ["mill-1"]
    assert client.models.retrieve("mill-1").object == "model"
    with pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="gpt-9", messages=ASK)
    assert caught.value.code == "model_not_found"


def test_health_is_said(running: Any) -> None:
    said = httpx.get(f"{running.url}/health").json()
    assert said.pop("digest") and said == {"status": "ok", "model": "mill-1", "key": None, "requests": 0}


def test_every_precision_can_be_served(start: Callable[..., Any]) -> None:
    with connect(start(precision="int8").url) as client:
        reply = client.chat.completions.create(model="mill-1", messages=ASK, temperature=0)
    assert reply.choices[0].message.content


GOOD = {"model": "mill-1", "messages": ASK}
DEEP = b'{"model": "mill-1", "messages": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (b"{", 400, "no valid JSON"),
        (b"", 400, "no valid JSON"),
        (b"[1]", 400, "body"),
        (DEEP, 400, "no valid JSON"),
        (b'{"model": "\xff"}', 400, "no valid JSON"),
        (b'{"model": "mill-1", "messages": [{"role": "user", "content": "\\ud800"}]}', 400, "no valid JSON"),
        (
            b'{"model": "mill-1", "messages": [{"role": "user", "content": "x"}], "temperature": NaN}',
            400,
            "temperature",
        ),
        ({"messages": ASK}, 400, "model"),
        (GOOD | {"messages": []}, 400, "messages"),
        (GOOD | {"messages": "hello"}, 400, "messages"),
        (GOOD | {"messages": [{"role": "wizard", "content": "x"}]}, 400, "role"),
        (GOOD | {"messages": [{"role": "assistant", "content": "x"}]}, 400, "no user"),
        (GOOD | {"messages": [{"role": "user", "content": 3}]}, 400, "content"),
        (GOOD | {"messages": [{"role": "user", "content": [{"type": "image_url", "text": "x"}]}]}, 400, "type"),
        (GOOD | {"temperature": 99}, 400, "temperature"),
        (GOOD | {"temperature": -0.1}, 400, "temperature"),
        (GOOD | {"temperature": "1"}, 400, "temperature"),
        (GOOD | {"top_p": 0}, 400, "top_p"),
        (GOOD | {"top_p": 1.1}, 400, "top_p"),
        (GOOD | {"n": 1_000_000_000}, 400, "n:"),
        (GOOD | {"n": 0}, 400, "n:"),
        (GOOD | {"max_tokens": 0}, 400, "max_tokens"),
        (GOOD | {"max_tokens": -1}, 400, "max_tokens"),
        (GOOD | {"max_tokens": 10**9}, 400, "maximum context length"),
        (GOOD | {"max_completion_tokens": 10**30}, 400, "max"),
        (GOOD | {"messages": [{"role": "user", "content": "wheat " * 500}]}, 400, "maximum context length"),
        (GOOD | {"stop": ["x"] * 5}, 400, "stop"),
        (GOOD | {"stop": ""}, 400, "stop"),
        (GOOD | {"seed": 1.5}, 400, "seed"),
        (GOOD | {"seed": 2**70}, 400, "seed"),
        (GOOD | {"logprobs": True}, 400, "logprobs"),
        (GOOD | {"tools": [{"type": "function"}]}, 400, "tools"),
        (GOOD | {"presence_penalty": 1}, 400, "presence_penalty"),
        (GOOD | {"logit_bias": {"five": 1}}, 400, "logit_bias"),
        (GOOD | {"temprature": 1}, 400, "temprature"),
        (GOOD | {"stream": "yes"}, 400, "stream"),
        (GOOD | {"model": "x" * 1000}, 404, "does not exist"),
    ],
)
def test_a_bad_request_is_refused_in_openais_form(running: Any, body: Any, status: int, says: str) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    response = httpx.post(
        f"{running.url}/v1/chat/completions", content=content, headers={"content-type": "application/json"}, timeout=10
    )
    assert response.status_code == status, response.text
    error = response.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert says in error["message"]


def test_a_prompt_longer_than_the_context_has_openais_code(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.completions.create(model="mill-1", prompt="wheat " * 1000)
    assert (caught.value.code, caught.value.param) == ("context_length_exceeded", "prompt")


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_beyond_a_megabyte_is_refused_before_it_is_read(running: Any, announced: bool) -> None:
    def pieces() -> Any:
        for _ in range(64):
            yield b"x" * 1_048_576

    headers = {"content-type": "application/json"} | ({"content-length": str(64 << 20)} if announced else {})
    try:
        response = httpx.post(f"{running.url}/v1/completions", content=pieces(), headers=headers, timeout=20)
        assert response.status_code == 413
    except (httpx.WriteError, httpx.ReadError, httpx.RemoteProtocolError):
        pass  # the server has answered and closed while the client still wrote
    assert httpx.get(f"{running.url}/health", timeout=5).status_code == 200


def test_what_is_no_json_is_not_read_and_unknown_paths_and_methods_are_refused(running: Any) -> None:
    response = httpx.post(f"{running.url}/v1/completions", content=b"{}", headers={"content-type": "text/plain"})
    assert response.status_code == 415
    for response in (httpx.get(f"{running.url}/v2"), httpx.get(f"{running.url}/v1/completions")):
        assert response.status_code in (404, 405)
        assert "is not served here" in response.json()["error"]["message"]


def test_a_page_that_points_its_own_name_at_loopback_is_refused(running: Any) -> None:
    for host in ("evil.example", "127.0.0.1.evil.example:80", "", "[::1"):
        assert httpx.get(f"{running.url}/v1/models", headers={"host": host}).status_code in (400, 403)
    for host in ("localhost", "127.0.0.1:1", "[::1]:80"):
        assert httpx.get(f"{running.url}/v1/models", headers={"host": host}).status_code == 200


def test_with_a_key_only_its_bearers_are_answered(start: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    url = start(api_key="canary-k3y").url
    assert httpx.get(f"{url}/health").status_code == 200
    with pytest.raises(openai.AuthenticationError), connect(url, "canary-k3z") as stranger:
        stranger.models.list()
    assert httpx.get(f"{url}/v1/models").status_code == 401
    assert httpx.get(f"{url}/v1/models", headers={"authorization": "Bearer schlüssel".encode()}).status_code == 401
    with connect(url, "canary-k3y") as bearer:
        assert list(bearer.models.list())
    assert "canary" not in caplog.text


def _slow(url: str, **more: Any) -> dict[str, Any]:
    body = {"model": "mill-1", "messages": ASK, "n": 8, "temperature": 0, "stream": True} | more
    return {"method": "POST", "url": f"{url}/v1/chat/completions", "json": body}


@pytest.fixture(scope="module")
def slow_url(start: Callable[..., Any]) -> str:
    """A server of two places whose model takes 30 ms a token, so that an answer takes seconds."""
    begun = start(places=2)
    engine = begun.server.config.app.state.current.served.engine
    step = engine._step
    engine._step = lambda *given: time.sleep(0.03) or step(*given)
    return str(begun.url)


def _free(url: str) -> bool:
    return bool(httpx.get(f"{url}/health").json()["requests"] == 0)


def test_a_client_that_leaves_frees_its_place(slow_url: str) -> None:
    with httpx.stream(**_slow(slow_url), timeout=20) as response:
        lines = response.iter_lines()  # httpx hangs up when this is collected
        next(lines)
        assert not _free(slow_url)
    _until(lambda: _free(slow_url))
    with pytest.raises(httpx.ReadTimeout):
        httpx.request(**_slow(slow_url, stream=False), timeout=0.5)
    _until(lambda: _free(slow_url))


def test_a_full_queue_says_when_to_come_back(slow_url: str) -> None:
    with httpx.Client(timeout=60) as client, client.stream(**_slow(slow_url)), client.stream(**_slow(slow_url)):
        refused = client.request(**_slow(slow_url))
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) >= 1
        assert refused.json()["error"]["code"] == "queue_full"
    _until(lambda: _free(slow_url))


def test_a_host_that_others_reach_needs_a_key() -> None:
    with pytest.raises(UserError, match="set GRISTMILL_API_KEY"):
        listen("0.0.0.0", 0, None)  # noqa: S104
    listen("0.0.0.0", 0, "key").close()  # noqa: S104


def test_a_port_in_use_is_named(bundle: Path) -> None:
    with listen("127.0.0.1", 0, None) as taken, pytest.raises(UserError, match="cannot be had"):
        serve(bundle, port=taken.getsockname()[1])


SERVE = """
import sys
from pathlib import Path
from pipelines.serving.serve import serve
serve(Path(sys.argv[1]), port=0, ready=lambda url: print(url, flush=True))
"""


@pytest.mark.slow
def test_sigterm_lets_running_requests_finish_and_exits_with_0(bundle: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SERVE, str(bundle)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx.stream(**_slow(url), timeout=60) as response:
            lines = response.iter_lines()
            next(lines)
            process.send_signal(signal.SIGTERM)
            rest = [line for line in lines if line]
        assert rest[-1] == "data: [DONE]"
        assert process.wait(30) == 0


def _until(reached: Callable[[], bool], seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not reached():
        assert time.monotonic() < end
        time.sleep(0.02)
