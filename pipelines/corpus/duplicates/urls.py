"""Addresses in one form, so that equal ones are equal strings."""

import posixpath
import re
from urllib.parse import quote, unquote, urlsplit

DEFAULT_PORTS = {"http": 80, "https": 443}
_ESCAPE = re.compile(r"%[0-9a-fA-F]{2}")
_UNRESERVED = re.compile(r"[A-Za-z0-9._~-]")


def normalised_url(url: str | None) -> str | None:
    """Return the address after RFC 3986, section 6.2.2 and 6.2.3, without its fragment; None where it has no host.

    Scheme and host in lower case, no default port, no dot segments, escapes of unreserved characters undone and the
    others in upper case. Queries and the scheme stay: what differs in them may be another page.
    """
    try:
        parts = urlsplit((url or "").strip())
        host, port = parts.hostname, parts.port
    except ValueError:  # a bad port or a broken IPv6 address
        return None
    if not host or not parts.scheme:
        return None
    host = f"[{host}]" if ":" in host else host.rstrip(".")
    where = host if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f"{host}:{port}"
    path = _escaped(parts.path) or "/"
    resolved = posixpath.normpath(f"/{path.lstrip('/')}")
    if path.endswith(("/", "/.", "/..")) and resolved != "/":
        resolved += "/"
    query = f"?{_escaped(parts.query)}" if parts.query else ""
    return f"{parts.scheme}://{where}{resolved}{query}"


def _escaped(text: str) -> str:
    def settle(found: re.Match[str]) -> str:
        char = unquote(found[0], errors="replace")
        return char if _UNRESERVED.fullmatch(char) else found[0].upper()

    return quote(_ESCAPE.sub(settle, text), safe="/?#[]@!$&'()*+,;=:%~-._|")
