"""Reading conversations: a line is a conversation, and its turns become one text with their roles.

The two common layouts are read: `messages` with `role` and `content` (OpenAI's) and `conversations` with `from` and
`value` (ShareGPT's). Offset, digest, URL and crawl time are those of a JSON line.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipelines.corpus.readers.jsonl import json_rows, url_of
from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, storable, utc

TURNS = ("messages", "conversations", "conversation")
ROLES = {
    "system": "System", "developer": "System",
    "user": "User", "human": "User", "prompter": "User",
    "assistant": "Assistant", "gpt": "Assistant", "bot": "Assistant", "chatbot": "Assistant", "model": "Assistant",
    "tool": "Tool", "function": "Tool", "function_response": "Tool", "observation": "Tool",
}  # fmt: skip


class _Unfit(Exception):
    """A conversation that cannot be told as text, and why."""


def conversation_records(path: Path, url_field: str, limits: Limits) -> Iterator[Record | Dropped]:
    """Yield the conversations of a file in order; offsets count decompressed bytes."""
    for offset, line, row in json_rows(path, limits):
        if isinstance(row, Dropped):
            yield row
            continue
        url = url_of(row, url_field)
        try:
            text = conversation_text(row)
        except _Unfit as unfit:
            yield Dropped(offset, str(unfit), url=url)
            continue
        yield Record(
            offset=offset,
            digest=digest_of(line.rstrip(b"\r")),
            url=url,
            crawl_time=utc(row.get("crawl_time")),
            content=text,
            is_html=False,
        )


def has_turns(row: Any) -> bool:
    """Return whether a JSON value is a conversation and no row of text."""
    return isinstance(row, dict) and "text" not in row and any(isinstance(row.get(name), list) for name in TURNS)


def conversation_text(row: dict[str, Any]) -> str:
    """Return the turns as paragraphs, each `Role: what was said`."""
    turns = next((row[name] for name in TURNS if isinstance(row.get(name), list)), None)
    if turns is None:
        raise _Unfit("no_turns")
    if not turns:
        raise _Unfit("empty")
    told = [_turn(turn) for turn in turns]
    if not any(role == "Assistant" for role, _ in told):
        raise _Unfit("no_answer")
    return "\n\n".join(f"{role}: {said}" for role, said in told)


def _turn(turn: Any) -> tuple[str, str]:
    if not isinstance(turn, dict):
        raise _Unfit("bad_turn")
    role = turn.get("role", turn.get("from"))
    if not isinstance(role, str) or role.lower() not in ROLES:
        raise _Unfit("unknown_role")
    said = storable(_said(turn.get("content", turn.get("value")))).strip()
    if not said:
        raise _Unfit("empty_turn")
    return ROLES[role.lower()], said


def _said(content: Any) -> str:
    """Return a turn's text, which may come in parts; pictures and calls of tools have none."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list):
        raise _Unfit("text_not_a_string")
    if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
        raise _Unfit("not_only_text")
    return "\n".join(part["text"] for part in content)
