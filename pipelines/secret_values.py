"""Secrets in settings: parameters are stored, shown in the UI and written into manifests, so none may be in them."""

import re
from collections.abc import Iterator, Mapping

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.redaction import LOGIN_IN_URL
from pipelines.corpus.personal.keys import find_keys

_SIGNED_URL = re.compile(
    r"[?&](?:X-Amz-Signature|X-Goog-Signature|Signature|sig|access_token|token|api_key|key)=\S{8,}"
)


def refuse_secrets(fields: object, where: str = "") -> None:
    """Raise UserError with the name of the first field whose value looks like a key, a token or a URL with a password.

    The value itself is not repeated.
    """
    for path, text in _strings(fields, where):
        if LOGIN_IN_URL.search(text) or _SIGNED_URL.search(text) or any(find_keys(text)):
            raise UserError(
                f"{path}: its value looks like a secret, and parameters are stored and shown; leave it out and set it "
                "in the environment of the process that runs the flow (HF_TOKEN, AWS_SECRET_ACCESS_KEY, ~/.netrc)"
            )


def _strings(fields: object, where: str) -> Iterator[tuple[str, str]]:
    """Yield the texts in nested fields with their paths; what stands at several places, as YAML's anchors do, once."""
    waiting, seen = [(where, fields)], dict[int, object]()
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, str):
            yield path, value
        elif id(value) not in seen:
            seen[id(value)] = value  # held, so that no other object gets its number
            waiting += [(f"{path}.{name}" if path else str(name), item) for name, item in reversed(_items(value))]


def _items(value: object) -> list[tuple[object, object]]:
    """Return what a container holds, by name or number."""
    if isinstance(value, Mapping):
        return list(value.items())
    if isinstance(value, list | tuple | set | frozenset):
        return list(enumerate(value))
    return [(name, getattr(value, name)) for name in getattr(type(value), "model_fields", {})]
