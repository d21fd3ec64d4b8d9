"""The form of a measured claim, which every script here prints."""

from typing import Any


def claim(what: str, ours: float, target: float, *, at_most: bool = True, peer: float | None = None) -> dict[str, Any]:
    """Return one claim in the form of docs/benchmarks.md."""
    ratio = ours / peer if peer else None
    ok = ours <= target if at_most else ours >= target
    return {"what": what, "ours": ours, "peer": peer, "ratio": ratio, "target": target, "ok": ok}
