"""Running a flow from the command line: a line a stage, and the flow's failure as one line."""

import os
from importlib import import_module
from typing import Any

from httpx import HTTPError
from prefect import Flow, tags
from prefect.client.schemas.objects import State
from prefect.exceptions import PrefectException

from deployments.prefect_api import api_url, check_server
from deployments.prefect_settings import WATCHED_TAG
from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.run import NodeResult
from pipelines.artifacts.stage import StageConfig

FLOWS = {
    "full": "flows.full:full",
    "prepare-corpus": "flows.data:prepare_corpus",
    "dedup-only": "flows.data:dedup_only",
    "pretrain": "flows.training:pretrain",
    "post-train": "flows.training:post_train",
    "release": "flows.release:release",
    "retrain": "flows.retrain:retrain",
    "evaluate-and-promote": "flows.release:evaluate_and_promote",
}
"""Entrypoints by name. Prefect makes a flow's form when its module is imported, 0.2 s each: only the one asked for."""


def flow_named(name: str) -> Flow[..., State[list[NodeResult]]]:
    """Return the flow."""
    module, _, attribute = FLOWS[name].partition(":")
    flow: Flow[..., State[list[NodeResult]]] = getattr(import_module(module), attribute)
    return flow


def run_flow(name: str, config: StageConfig) -> list[NodeResult]:
    """Run the flow in this process and return what happened at each node; raise what it failed with."""
    if url := api_url():
        check_server(url)
    else:
        from deployments.temporary_server import GuardedServer  # loading a server takes a second

        GuardedServer()
    try:
        with tags(WATCHED_TAG):
            state: State[Any] = flow_named(name)(config, return_state=True)
    except (PrefectException, HTTPError, RuntimeError, OSError) as error:
        where = os.environ.get("PREFECT_API_URL", "its own temporary server")
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise StageFailed(f"{name}: Prefect does not answer at {where} ({cause}); start it or unset the URL") from error
    if not state.is_completed():
        failure = getattr(state.data, "result", state.data)  # a server that answers late leaves it in a record
        raise failure if isinstance(failure, Exception) else StageFailed(f"{name}: {state.name} ({state.message})")
    results: list[NodeResult] = state.result()
    return results
