"""Prefect's settings as the project needs them; a variable that is set already stays as it is.

Prefect reads its settings when it is first imported, so `apply` comes before.
"""

import os
from collections.abc import Mapping

HEARTBEAT_SECONDS = 30
"""Prefect's least. At its default of 180 s a run that was killed cannot be told within two minutes."""
SILENT_SECONDS = 95
"""A run is dead when so long no heartbeat came: three were missed, and the server looks every five seconds."""
WATCHED_TAG = "gristmill"
"""Every run of ours has it; the server watches the heartbeats of those alone, as others may send theirs more seldom."""

CLIENT: Mapping[str, str] = {
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": str(HEARTBEAT_SECONDS),
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "120",  # a cold start takes 20 s on two cores
}
"""For every process that runs flows."""
COMMAND: Mapping[str, str] = {**CLIENT, "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL"}
"""For `gristmill run`, whose table of stages says it better than the log."""
SERVER: Mapping[str, str] = {
    **CLIENT,
    "PREFECT_SERVER_CSRF_PROTECTION_ENABLED": "true",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    "PREFECT_SERVER_LOGGING_LEVEL": "WARNING",
    # In memory, which is the default, a killed server forgets who holds a place in a limit, and nobody ever gets it.
    "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
}
"""For the server, beside its address, its database and the origins that a browser may call it from."""


def apply(settings: Mapping[str, str]) -> None:
    """Put the settings into this process's environment, and so into that of its children."""
    for name, value in settings.items():
        os.environ.setdefault(name, value)
