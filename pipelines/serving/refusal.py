"""A request that is refused, in the form that OpenAI's clients read."""

from collections.abc import Mapping

from fastapi.responses import JSONResponse
from pydantic import ValidationError
from starlette.responses import Response


class Refusal(Exception):
    """A request that cannot be served: the HTTP status, and what the client is told."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        kind: str = "invalid_request_error",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.code, self.param, self.kind = status, message, code, param, kind
        self.headers = dict(headers or {})

    def as_json(self) -> dict[str, object]:
        """Return the error object."""
        return {"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}}

    def response(self) -> Response:
        """Return the HTTP response."""
        return JSONResponse(self.as_json(), status_code=self.status, headers=self.headers)


def invalid_fields(error: ValidationError) -> Refusal:
    """Return the refusal of a body that breaks the schema: its innermost fault, by field."""
    fault = max(error.errors(include_url=False, include_input=False), key=lambda fault: len(fault["loc"]))
    place = ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "json_invalid":
        return Refusal(400, f"the body is no valid JSON: {fault['msg']}", code="invalid_json")
    return Refusal(400, f"{place or 'body'}: {fault['msg']}", param=place or None, code="invalid_value")


def too_long(prompt: int, wanted: int, context: int, param: str) -> Refusal:
    """Return the refusal of a prompt that, with the completion asked for, does not fit the model."""
    message = (
        f"this model's maximum context length is {context} tokens; the prompt has {prompt} and "
        f"{wanted} are asked for; shorten the prompt or the completion"
    )
    return Refusal(400, message, code="context_length_exceeded", param=param)
