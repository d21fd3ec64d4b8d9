"""The server that a command talks to: is it there, does it let us in, and is it of a version that we know."""

from base64 import b64encode

import prefect
from httpx import HTTPError, Response, get
from packaging.version import InvalidVersion, Version
from prefect.settings import get_current_settings

from pipelines.artifacts.errors import StageFailed, UserError

ASK_SECONDS = 60
"""A server that still prepares its database takes the connection and answers when it is done."""


def api_url() -> str | None:
    """Return the address of the API that Prefect's settings name; None where they name no server."""
    url = get_current_settings().api.url
    return url.rstrip("/") if url else None


def required_server() -> str:
    """Return the address of a server that was found to answer; raise UserError where none is named."""
    url = api_url()
    if url is None:
        raise UserError("PREFECT_API_URL: it names no server; start gristmill server, which says what to set it to")
    check_server(url)
    return url


def check_server(url: str) -> None:
    """Raise StageFailed where no server of Prefect answers, UserError for a wrong auth string or another version."""
    answer = _ask(url)
    if answer.status_code in (401, 403):
        raise UserError(
            f"PREFECT_API_AUTH_STRING: {url} refuses {_shown_auth()}; set it to the server's own USER:PASSWORD"
        )
    try:
        theirs = Version(str(answer.raise_for_status().json()))
    except (HTTPError, InvalidVersion, ValueError) as error:
        raise StageFailed(
            f"PREFECT_API_URL: what answers at {url} is no Prefect server; start gristmill server"
        ) from error
    ours = Version(prefect.__version__)
    if (theirs.major, theirs.minor) != (ours.major, ours.minor):
        raise UserError(
            f"PREFECT_API_URL: the server at {url} is Prefect {theirs} and this is {ours}; "
            f"install prefect=={theirs} here, or start gristmill server of this version there"
        )


def _ask(url: str) -> Response:
    auth = get_current_settings().api.auth_string
    headers = {"Authorization": f"Basic {b64encode(auth.get_secret_value().encode()).decode()}"} if auth else {}
    try:
        return get(f"{url}/admin/version", headers=headers, timeout=ASK_SECONDS)
    except HTTPError as error:
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise StageFailed(
            f"PREFECT_API_URL: no Prefect server answers at {url} ({cause}); start gristmill server or unset the URL"
        ) from error


def _shown_auth() -> str:
    return "the auth string that is set" if get_current_settings().api.auth_string else "a client without one"
