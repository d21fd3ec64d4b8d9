"""Which folder or URI can be a mirror; none with a secret in it."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.mirror import Mirror, one_line
from pipelines.artifacts.store import Store

SECRET = re.compile(r"(?i)(^|[?&])[^=&]*(key|secret|token|sig|signature|password|credential)[^=&]*=")


def mirror_at(uri: str | None, store: Path) -> Mirror | None:
    """Return the mirror at this URI or folder, None for none; raise UserError for what can be none.

    A URI stands in logs and lines, so it may hold no secret.
    """
    if not uri:
        return None
    if "::" in uri:
        raise UserError("mirror: a chain of file systems (::) is none; name one place, as in s3://bucket/gristmill")
    try:
        parts = urlsplit(uri if "://" in uri else f"file://{Path(uri).expanduser().absolute()}")
    except ValueError as error:
        raise UserError(f"mirror: {one_line(error)}; name a place such as s3://bucket/gristmill") from error
    if parts.password is not None or SECRET.search(parts.query):
        raise UserError(
            f"mirror: the {parts.scheme} URI holds a secret, which logs would show; leave it out and give it by the "
            f"environment (the service's own variables, or FSSPEC_{parts.scheme.upper()}_NAME)"
        )
    if parts.scheme in ("file", "local") and Path(parts.path).resolve().is_relative_to(store.resolve()):
        raise UserError(f"mirror: {uri!r} lies in the store {str(store)!r}; name another place")
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(parts.scheme)
    except (ValueError, ImportError) as error:
        raise UserError(f"mirror: {uri!r} is of a kind that cannot be read ({one_line(error)})") from error
    return _opened(parts.geturl())


def store_at(root: str, mirror: str | None) -> Store:
    """Return the store of this folder with the mirror of this URI; another process opens again what one has open."""
    return Store(Path(root), mirror_at(mirror, Path(root)))


@cache
def _opened(uri: str) -> Mirror:
    """Return the process's one mirror of this URI: what it learns of it holds for every store and stage."""
    return Mirror(uri)
