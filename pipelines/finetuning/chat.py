"""The stage `chat`: the template that turns a conversation into ids, and the one way to apply it."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from pydantic import ConfigDict, Field

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.artifacts.work import atomic_file
from pipelines.finetuning.contract import MARKER, TEMPLATE_FILE
from pipelines.tokens.special import ROLES

MAX_TURN_CHARS = 1_000_000

Messages = Sequence[Mapping[str, str]]


def default_template() -> str:
    """Return the chat template that ships with the package."""
    return Path(__file__).with_name(TEMPLATE_FILE).read_text(encoding="utf-8").rstrip("\n")


class ChatConfig(StageConfig):
    """The words between the turns of a conversation."""

    model_config = ConfigDict(title="Chat template")

    template: str = Field(
        default_factory=default_template,
        min_length=1,
        max_length=65_536,
        description="Jinja text of the chat template; assistant turns stand in {% generation %} … {% endgeneration %}",
    )


def chat(config: ChatConfig, *, out: Path) -> Metrics:
    """Write the template once a trial conversation has come out right."""
    from pipelines.finetuning.rendering import render

    turns = [{"role": role, "content": f"a {role} turn"} for role in ROLES]
    markers = sorted(set(MARKER.findall(config.template)) | {f"<|{role}|>" for role in ROLES})
    pieces = render(config.template, turns, markers)
    said = "".join(piece.text for piece in pieces if piece.assistant)
    if turns[-1]["content"] not in said or any(turn["content"] in said for turn in turns[:-1]):
        raise UserError(
            "chat.template: the assistant's turns, and they alone, must stand in {% generation %} … {% endgeneration %}"
        )
    if not any(piece.control and piece.assistant for piece in pieces):
        raise UserError("chat.template: no <|…|> token closes a turn inside {% generation %}; the model could not stop")
    with atomic_file(out / "template" / TEMPLATE_FILE, out) as fresh:
        fresh.write_text(config.template, encoding="utf-8", newline="\n")
    return {"characters": float(len(config.template))}


CHAT = Stage("chat", version=1, run=chat, libraries=("Jinja2",))


def refusal(messages: Any) -> str | None:
    """Return why these are no conversation, in a word to count by, or None when they are one."""
    if not isinstance(messages, list | tuple) or not messages:
        return "no_messages"
    if not all(isinstance(turn, Mapping) and turn.get("role") in ROLES for turn in messages):
        return "unknown_role"
    roles = [turn["role"] for turn in messages]
    if "user" not in roles:
        return "no_user"
    if "system" in roles[1:]:
        return "misplaced_system"
    contents = [turn.get("content") for turn in messages]
    if not all(isinstance(content, str) and content.strip() for content in contents):
        return "empty_turn"
    if max(map(len, contents)) > MAX_TURN_CHARS:
        return "turn_too_long"
    if any("\ud800" <= char <= "\udfff" for content in contents if not content.isascii() for char in content):
        return "invalid_unicode"
    return None


def encode_chat(
    tokenizer: Any, messages: Messages, template: str, add_generation_prompt: bool = False
) -> tuple[list[int], list[int]]:
    """Return the ids of a conversation and a mask of equal length that is 1 where the assistant speaks.

    Control ids come from the template alone: a marker that a user typed is tokenised as text. Text is cut where a
    turn of the assistant begins, so a prompt's ids begin the ids of the finished conversation. Raises UserError for
    what is no conversation.
    """
    from pipelines.finetuning.rendering import render

    reason = refusal(messages)
    if reason:
        raise UserError(f"messages: {reason.replace('_', ' ')}; give turns of {', '.join(ROLES)} with text")
    plain, controls = _as_text(tokenizer)
    turns = [dict(turn) for turn in messages]
    names = {name: token for name, token in tokenizer.special_tokens_map.items() if isinstance(token, str)}
    pieces = render(template, turns, controls, add_generation_prompt=add_generation_prompt, variables=names)
    texts = iter(
        plain.encode_batch_fast([piece.text for piece in pieces if not piece.control], add_special_tokens=False)
    )
    ids: list[int] = []
    mask: list[int] = []
    for piece in pieces:
        new = [controls[piece.text]] if piece.control else next(texts).ids
        ids += new
        mask += [int(piece.assistant)] * len(new)
    return ids, mask


_texts: WeakKeyDictionary[Any, tuple[Any, dict[str, int]]] = WeakKeyDictionary()


def _as_text(tokenizer: Any) -> tuple[Any, dict[str, int]]:
    """Return a copy of the tokenizer's backend that reads control tokens as text, and the control tokens' ids.

    A copy, since the switch is a state that other threads would flip between.
    """
    if tokenizer not in _texts:
        plain = deepcopy(tokenizer.backend_tokenizer)
        plain.encode_special_tokens = True
        plain.no_truncation()
        plain.no_padding()
        controls = {str(token): place for place, token in tokenizer.added_tokens_decoder.items() if token.special}
        _texts[tokenizer] = (plain, controls)
    return _texts[tokenizer]
