"""`gristmill server`: Prefect's server in this process, on loopback, with what our runs need of it."""

import os
import re
import socket

from deployments.prefect_settings import SERVER, apply
from pipelines.artifacts.errors import UserError
from pipelines.serving.guard import is_loopback
from pipelines.serving.listening import address_of, bind

AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
DATABASE_VARIABLE = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def serve_prefect(host: str = "127.0.0.1", port: int = 4200, database: str | None = None) -> None:
    """Run Prefect's server and return when SIGTERM or SIGINT has come.

    Raises UserError for an address that cannot be had, a host that others reach where there is no auth string, and a
    database URL of another kind; StageFailed where the database cannot be opened.
    """
    if not os.environ.get(AUTH_VARIABLE) and not is_loopback(host):
        raise UserError(f"--host: {host!r} is reached by others and there is no auth string; set {AUTH_VARIABLE}")
    if database is not None:
        os.environ[DATABASE_VARIABLE] = connection_url(database)
    with bind(host, port) as listener:
        _settle(listener)
        from deployments.prefect_app import run_app  # Prefect takes 1.4 s to load, and reads its settings then

        run_app(listener, address_of(listener), locked=bool(os.environ.get(AUTH_VARIABLE)))


def connection_url(text: str) -> str:
    """Return the URL as Prefect's database layer writes it: of PostgreSQL, or of a SQLite file."""
    kind, separator, rest = text.partition("://")
    if separator and kind in ("postgresql", "postgres", "postgresql+asyncpg"):
        return f"postgresql+asyncpg://{rest}"
    if separator and kind in ("sqlite", "sqlite+aiosqlite"):
        return f"sqlite+aiosqlite://{rest}"
    shown = re.sub(r"//[^/@]*@", "//…@", text)
    raise UserError(f"--database: {shown!r} is neither; write postgresql://USER@HOST/NAME or sqlite:////PATH/FILE.db")


def _settle(listener: socket.socket) -> None:
    """Set Prefect's settings for a server at this address, and for the client by which it prepares itself."""
    apply(SERVER)
    host, port = listener.getsockname()[:2]
    local = host if is_loopback(host) else "127.0.0.1"
    os.environ["PREFECT_SERVER_API_HOST"], os.environ["PREFECT_SERVER_API_PORT"] = host, str(port)
    os.environ["PREFECT_API_URL"] = f"http://{f'[{local}]' if ':' in local else local}:{port}/api"
    # Any page may read the answers of a server that allows every origin, which is Prefect's default.
    own = (f"http://{name}:{port}" for name in ("127.0.0.1", "localhost"))
    os.environ.setdefault("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", ",".join(own))
    if AUTH_VARIABLE in os.environ:
        os.environ["PREFECT_API_AUTH_STRING"] = os.environ[AUTH_VARIABLE]
