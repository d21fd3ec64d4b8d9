"""A user's own pairs and questions: each line is checked, each bad one is dropped with a reason."""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from pipelines.tokens.special import ROLES

MAX_LINE_BYTES = 4 << 20
CHOICES = 4

Message = dict[str, str]


class Refused(Exception):
    """A row cannot be used; the message is the reason, in one word."""


@dataclass(frozen=True)
class Row:
    """A row in the form that the stage writes, and the answer that decides its cluster."""

    value: dict[str, Any]
    answer: str


Check = Callable[[dict[str, Any], int], Row]


def read_rows(
    paths: Iterable[Path], check: Check, *, max_rows: int, max_chars: int, counts: Counter[str]
) -> Iterator[Row]:
    """Yield the usable rows of JSONL files in order; count every line, and why one is left out."""
    seen: set[str] = set()
    kept = 0
    for path in paths:
        for line in _lines(path):
            counts["in"] += 1
            try:
                row = _identified(check(_parsed(line), max_chars), seen)
                if kept >= max_rows:
                    raise Refused("beyond_max_rows")
            except Refused as refused:
                counts[f"dropped.{refused}"] += 1
                continue
            kept += 1
            yield row
    counts["kept"] += kept


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines, of an overlong one only its start, so that no line fills the memory."""
    with path.open("rb") as file:
        first = True
        while line := file.readline(MAX_LINE_BYTES):
            yield line.removeprefix(b"\xef\xbb\xbf") if first else line
            first = False
            while len(line) == MAX_LINE_BYTES and not line.endswith(b"\n"):
                line = file.readline(MAX_LINE_BYTES)


def _parsed(line: bytes) -> dict[str, Any]:
    if not line.strip():
        raise Refused("blank")
    if len(line) == MAX_LINE_BYTES:
        raise Refused("long_line")
    try:
        value = orjson.loads(line)  # refuses lone surrogates, invalid UTF-8, NaN and bottomless nesting
    except orjson.JSONDecodeError:
        raise Refused("not_json") from None
    if not isinstance(value, dict):
        raise Refused("not_an_object")
    return value


def _identified(row: Row, seen: set[str]) -> Row:
    """Return the row with an identifier, its own or a digest; refuse the second of two equal ones."""
    own = row.value["id"]
    content = orjson.dumps({**row.value, "id": None}, option=orjson.OPT_SORT_KEYS)
    digest = hashlib.sha256(content).hexdigest()[:16]
    if own is not None and not (isinstance(own, str) and re.fullmatch(r"[\w.:/#@+-]{1,200}", own)):
        raise Refused("id")
    names = {f"content {digest}", f"id {own or digest}"}
    if names & seen:
        raise Refused("duplicate")
    seen |= names
    return Row({**row.value, "id": own or digest}, row.answer)


def instruction(row: dict[str, Any], max_chars: int) -> Row:
    """Return a chat that ends with the assistant's answer."""
    messages = _messages(row.get("messages"), max_chars)
    if messages[-1]["role"] != "assistant":
        raise Refused("no_answer")
    return Row({"id": row.get("id"), "messages": messages}, messages[-1]["content"])


def preference(row: dict[str, Any], max_chars: int) -> Row:
    """Return a prompt that ends with the user's message and two different answers to it."""
    prompt = _messages(row.get("prompt"), max_chars)
    if prompt[-1]["role"] != "user":
        raise Refused("prompt")
    chosen, rejected = _answer(row, "chosen", max_chars), _answer(row, "rejected", max_chars)
    if chosen["content"].strip() == rejected["content"].strip():
        raise Refused("equal_answers")
    kind = row.get("kind", "given")
    if not isinstance(kind, str) or not re.fullmatch(r"[a-z0-9_]{1,40}", kind):
        raise Refused("kind")
    value = {"id": row.get("id"), "prompt": prompt, "chosen": [chosen], "rejected": [rejected], "kind": kind}
    return Row(value, chosen["content"])


def multiple_choice(row: dict[str, Any], max_chars: int) -> Row:
    """Return a question with four different choices, one of which is the answer."""
    asked, subject = _text(row.get("question"), "question", max_chars), _text(row.get("subject"), "subject", 200)
    choices, answer = row.get("choices"), row.get("answer")
    if not isinstance(choices, list) or len(choices) != CHOICES:
        raise Refused("choices")
    texts = [_text(choice, "choices", max_chars) for choice in choices]
    if len({text.strip() for text in texts}) != CHOICES:
        raise Refused("choices")
    if not isinstance(answer, int) or isinstance(answer, bool) or not 0 <= answer < CHOICES:
        raise Refused("answer")
    value = {"id": row.get("id"), "question": asked, "choices": texts, "answer": answer, "subject": subject}
    return Row(value, texts[answer])


def _messages(value: Any, max_chars: int) -> list[Message]:
    """Return a conversation: a system message or none, then user and assistant in turns."""
    if not isinstance(value, list) or not value:
        raise Refused("messages")
    messages = [_message(item, max_chars) for item in value]
    roles = [message["role"] for message in messages]
    if roles.count("system") > 1:
        raise Refused("two_systems")
    if "user" not in roles:
        raise Refused("no_user")
    spoken = roles[1:] if roles[0] == "system" else roles
    if any(role != ("user", "assistant")[index % 2] for index, role in enumerate(spoken)):
        raise Refused("turns")
    return messages


def _message(value: Any, max_chars: int) -> Message:
    if not isinstance(value, dict) or not isinstance(value.get("role"), str):
        raise Refused("messages")
    if value["role"] not in ROLES:
        raise Refused("role")
    return {"role": value["role"], "content": _text(value.get("content"), "messages", max_chars)}


def _answer(row: dict[str, Any], name: str, max_chars: int) -> Message:
    value = row.get(name)
    if not isinstance(value, list) or len(value) != 1:
        raise Refused(name)
    message = _message(value[0], max_chars)
    if message["role"] != "assistant":
        raise Refused(name)
    return message


def _text(value: Any, name: str, max_chars: int) -> str:
    if not isinstance(value, str):
        raise Refused(name)
    if not value.strip():
        raise Refused(f"empty_{name}")
    if len(value) > max_chars:
        raise Refused(f"long_{name}")
    if "\0" in value:
        raise Refused("nul")
    return value
