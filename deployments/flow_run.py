"""Running a flow from the command line: quiet logs, a line a stage, and the flow's failure as one line."""

import os

# Prefect reads its settings when it is imported, so they stand before the imports.
os.environ.setdefault("PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS", "120")  # a cold start takes 20 s on two cores
os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # the stage table says it better
os.environ.setdefault("PREFECT_SERVER_ANALYTICS_ENABLED", "false")

from collections.abc import Callable
from typing import Any

from httpx import HTTPError
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException

from flows.data import dedup_only, prepare_corpus
from flows.full import full
from flows.release import release
from flows.training import post_train, pretrain
from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.run import NodeResult
from pipelines.artifacts.stage import StageConfig

FLOWS: dict[str, Callable[..., Any]] = {
    flow.name: flow for flow in (full, dedup_only, prepare_corpus, pretrain, post_train, release)
}


def run_flow(name: str, config: StageConfig) -> list[NodeResult]:
    """Run the flow in this process and return what happened at each node; raise what it failed with."""
    try:
        state: State[list[NodeResult]] = FLOWS[name](config, return_state=True)
    except (PrefectException, HTTPError, RuntimeError, OSError) as error:
        where = os.environ.get("PREFECT_API_URL", "its own temporary server")
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise StageFailed(f"{name}: Prefect does not answer at {where} ({cause}); start it or unset the URL") from error
    if not state.is_completed() and not isinstance(state.data, Exception):
        raise StageFailed(f"{name}: {state.name} ({state.message})")
    return state.result()
