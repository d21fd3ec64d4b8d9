"""Chat templates rendered in a sandbox so that what a user typed can be told from what the template wrote.

Before rendering, each character of a message with which a control token could begin or end is replaced by a code
that starts with a character Unicode keeps for internal use; after it, the text is cut at the control tokens, which
only the template can have written, and decoded again.
"""

import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from jinja2 import Template, TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipelines.artifacts.errors import UserError

MAX_TEMPLATE_CHARS = 65_536
MAX_RENDERED_CHARS = 4_000_000
MAX_LOOPS = 100_000
ESCAPE, START, STOP = "\ufdd0", "\ufdd1", "\ufdd2"
RESERVED = (ESCAPE, START, STOP)
FIRST_CODE = 0xF0000
GENERATION_TAG = re.compile(r"\{%([-+]?)\s*(?:end)?generation\s*([-+]?)%\}")
RAISED = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RecursionError)


@dataclass(frozen=True)
class Piece:
    """A stretch of a rendered conversation: a control token of the template, or text."""

    text: str
    control: bool
    assistant: bool


class Generation(Extension):
    """The tag `{% generation %}`: what is inside was written by the assistant."""

    tags = {"generation"}  # noqa: RUF012  # jinja declares it as an instance's set

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """Return the body between two characters that mark where it starts and stops."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        start, stop = (nodes.Output([nodes.TemplateData(mark)], lineno=line) for mark in (START, STOP))
        return [start, *body, stop]


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja without the operations by which a short template makes a long text."""

    intercepted_binops = frozenset(["*", "**", "%"])
    growing = frozenset(["center", "ljust", "rjust", "zfill", "expandtabs", "format", "format_map"])

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Refuse the text methods that take a width."""
        return attr not in self.growing and super().is_safe_attribute(obj, attr, value)

    def wrap_str_format(self, value: Any) -> None:
        """Leave `format` to `is_safe_attribute`, which refuses it."""

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Reckon with small numbers only."""
        if operator == "**" or not all(isinstance(side, int | float) for side in (left, right)):
            raise SecurityError(f"the operator {operator} is for small numbers")
        return super().call_binop(context, operator, left, right)


@lru_cache(maxsize=8)
def compile_template(text: str) -> Template:
    """Return the compiled chat template; raise UserError where it is none."""
    if len(text) > MAX_TEMPLATE_CHARS:
        raise UserError(f"template: {len(text):,} characters; a chat template has at most {MAX_TEMPLATE_CHARS:,}")
    if any(mark in text for mark in RESERVED):
        raise UserError("template: it holds a character from U+FDD0 to U+FDD2, which Unicode reserves; take it out")
    sandbox = Sandbox(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols])
    for growing in Sandbox.growing & sandbox.filters.keys():
        del sandbox.filters[growing]
    sandbox.filters["tojson"] = lambda value, indent=None: json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        return sandbox.from_string(text)
    except (TemplateError, RecursionError) as error:
        raise UserError(f"template: {error}; correct the Jinja text") from None


def render(
    template: str,
    messages: Sequence[dict[str, str]],
    controls: Iterable[str],
    *,
    add_generation_prompt: bool = False,
    variables: dict[str, str] | None = None,
) -> list[Piece]:
    """Return the conversation in pieces, in order; raise UserError when the template fails or runs over its bounds."""
    compiled = compile_template(template)
    guard = Guard(controls)
    context = {
        **(variables or {}),
        "messages": [{"role": message["role"], "content": guard.encode(message["content"])} for message in messages],
        "add_generation_prompt": add_generation_prompt,
        "range": _bounded_range(),
        "raise_exception": _refuse,
    }
    blocks: list[str] = []
    size = 0
    try:
        for block in compiled.generate(context):
            blocks.append(block)
            size += len(block)
            if size > MAX_RENDERED_CHARS:
                raise UserError(f"template: a conversation renders to over {MAX_RENDERED_CHARS:,} characters; cut it")
    except RAISED as error:
        raise UserError(f"template: {error}; correct the template or the conversation") from None
    return list(guard.pieces("".join(blocks)))


@dataclass(frozen=True)
class Marks:
    """Where control tokens stand in a text: their beginnings, the tokens, and the parts that one could be made of."""

    begins: re.Pattern[str]
    cut: re.Pattern[str]
    starts: tuple[str, ...]
    ends: tuple[str, ...]


@lru_cache(maxsize=8)
def _marks(controls: tuple[str, ...]) -> Marks:
    tokens = sorted(controls, key=lambda token: (-len(token), token))
    escaped = [re.escape(token) for token in tokens]
    return Marks(
        begins=re.compile(f"(?={'|'.join([*escaped, *RESERVED])})"),
        cut=re.compile(f"({'|'.join([*escaped, START, STOP])})"),
        starts=tuple(sorted({token[:size] for token in tokens for size in range(1, len(token))})),
        ends=tuple(sorted({token[size:] for token in tokens for size in range(1, len(token))})),
    )


class Guard:
    """Codes for the characters of messages that must take no part in a control token."""

    def __init__(self, controls: Iterable[str]) -> None:
        self.marks = _marks(tuple(controls))
        self.codes: dict[str, str] = {}

    def encode(self, content: str) -> str:
        """Return the content so coded that no control token is in it, or begins or ends in it."""
        spots = {match.start() for match in self.marks.begins.finditer(content)}
        if content.endswith(self.marks.starts):
            spots.add(len(content) - 1)
        if content.startswith(self.marks.ends):
            spots.add(0)
        if not spots:
            return content
        return "".join(self._code(char) if place in spots else char for place, char in enumerate(content))

    def _code(self, char: str) -> str:
        return ESCAPE + self.codes.setdefault(char, chr(FIRST_CODE + len(self.codes)))

    def pieces(self, rendered: str) -> Iterator[Piece]:
        """Yield the control tokens and the decoded text between them."""
        chars = {code: char for char, code in self.codes.items()}
        assistant = False
        for place, text in enumerate(self.marks.cut.split(rendered)):
            if text in (START, STOP):
                assistant = text == START
            elif place % 2:
                yield Piece(text, control=True, assistant=assistant)
            elif text:
                decoded = re.sub(f"{ESCAPE}(.?)", lambda code: chars.get(code[1], code[1]), text, flags=re.DOTALL)
                yield Piece(decoded, control=False, assistant=assistant)


def _bounded_range() -> Callable[..., range]:
    """Return a `range` whose results together have at most `MAX_LOOPS` numbers."""
    left = MAX_LOOPS

    def bounded(*bounds: int) -> range:
        nonlocal left
        numbers = range(*bounds)
        left -= 1 + len(numbers)
        if left < 0:
            raise SecurityError(f"its loops count over {MAX_LOOPS:,} numbers")
        return numbers

    return bounded


def _refuse(message: str) -> None:
    """Let a template refuse a conversation, as templates of the hub do."""
    raise TemplateError(str(message))


def portable_template(text: str) -> str:
    """Return the template without `{% generation %}`, which readers with plain Jinja refuse."""
    return GENERATION_TAG.sub(r"{#\1\2#}", text)
