"""The requests of OpenAI's API that the server takes, with their bounds; whatever it does not do, it refuses."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

MAX_CHOICES = 8
MAX_MESSAGES = 1024

StopString = Annotated[str, Field(min_length=1, max_length=256)]


def _refuse(value: Any) -> None:
    """Raise ValueError: some of OpenAI's fields change the answer in ways that this server has not."""
    if value is not None and value is not False and value != {} and value != []:
        raise ValueError("is not supported by this server; leave it out")


Unsupported = Annotated[None, BeforeValidator(_refuse)]


class StreamOptions(BaseModel):
    """What a stream carries besides text."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    include_usage: bool = False


class CompletionSettings(BaseModel):
    """The fields that both kinds of completion share."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    model: str
    max_tokens: int | None = Field(None, ge=1)
    temperature: float | None = Field(1.0, ge=0, le=2, allow_inf_nan=False)
    top_p: float | None = Field(1.0, gt=0, le=1, allow_inf_nan=False)
    n: int | None = Field(1, ge=1, le=MAX_CHOICES)
    stop: StopString | Annotated[list[StopString], Field(max_length=4)] | None = None
    stream: bool | None = False
    stream_options: StreamOptions | None = None
    seed: int | None = Field(None, ge=-(2**63), lt=2**63)
    user: str | None = None
    presence_penalty: float | None = Field(0.0, ge=0, le=0)
    frequency_penalty: float | None = Field(0.0, ge=0, le=0)
    logit_bias: Unsupported = None
    logprobs: Unsupported = None

    @property
    def stops(self) -> tuple[str, ...]:
        """The stop strings, however they were given."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def wanted(self) -> int | None:
        """The longest completion asked for, in tokens; None where the request leaves it open."""
        return self.max_tokens

    @property
    def include_usage(self) -> bool:
        """Whether a stream ends with the count of tokens."""
        return self.stream_options is not None and self.stream_options.include_usage


class TextPart(BaseModel):
    """A part of a message; text is the only kind."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    type: Literal["text"]
    text: str


class Message(BaseModel):
    """One turn of a conversation."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)
    role: Literal["system", "user", "assistant"]
    content: str | list[TextPart]

    @property
    def text(self) -> str:
        """The content as one string."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(CompletionSettings):
    """The body of `/v1/chat/completions`."""

    messages: list[Message] = Field(min_length=1, max_length=MAX_MESSAGES)
    max_completion_tokens: int | None = Field(None, ge=1)
    top_logprobs: Unsupported = None
    tools: Unsupported = None
    tool_choice: Unsupported = None
    functions: Unsupported = None
    response_format: Unsupported = None

    @property
    def wanted(self) -> int | None:
        """The smaller of the two limits; the older field is still in use."""
        given = [limit for limit in (self.max_tokens, self.max_completion_tokens) if limit is not None]
        return min(given, default=None)


class TextRequest(CompletionSettings):
    """The body of `/v1/completions`."""

    prompt: str
    max_tokens: int | None = Field(16, ge=1)
    best_of: Unsupported = None
    echo: Unsupported = None
    suffix: Unsupported = None
