"""The one form of a JSON value that is hashed."""

import hashlib
import json
from typing import Any


def digest_of(value: Any) -> str:
    """Return the sha256 of a JSON value in its canonical form; raise TypeError or ValueError on what has none."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
