"""Which failures may be over when the work is tried again."""

import errno

MENDS_ITSELF = frozenset(
    getattr(errno, name)
    for name in (
        *("ECONNABORTED", "ECONNREFUSED", "ECONNRESET", "EHOSTDOWN", "EHOSTUNREACH", "ENETDOWN", "ENETRESET"),
        *("ENETUNREACH", "EPIPE", "ESTALE", "ETIMEDOUT"),
    )
)
"""Of the network, and of a file system that is reached by it."""

LIBRARY_ERRORS = frozenset(
    {
        *("httpx.TransportError", "httpx2.TransportError", "requests.exceptions.ConnectionError"),
        *("requests.exceptions.Timeout", "aiohttp.client_exceptions.ClientConnectionError"),
        *("aiohttp.client_exceptions.ClientPayloadError", "socket.gaierror", "urllib3.exceptions.HTTPError"),
    }
)


def is_transient(error: BaseException) -> bool:
    """Say whether an error, or what caused it, is a fault of the network or of a remote file system."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, ConnectionError | TimeoutError):
            return True
        if isinstance(seen, OSError) and seen.errno in MENDS_ITSELF:
            return True
        if any(f"{kind.__module__}.{kind.__qualname__}" in LIBRARY_ERRORS for kind in type(seen).__mro__):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
