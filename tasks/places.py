"""A place in Prefect's concurrency limit `gpu`, which guards across hosts, for a stage that computes on a device.

Prefect frees the place of a killed holder when its lease has run out, after a minute. So each holder keeps a file,
named after its lease, that it locks while it lives: who waits on the same host frees the place of a dead one at once.
"""

import fcntl
import logging
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from contextvars import copy_context
from pathlib import Path
from uuid import UUID

from httpx import HTTPError, HTTPStatusError, codes
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.responses import ConcurrencyLimitWithLeaseResponse

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.host import Hear
from pipelines.artifacts.progress import say
from pipelines.artifacts.slot import slot_folder
from pipelines.artifacts.stage import StageConfig
from tasks.cluster_worker import still_wanted

GPU_LIMIT = "gpu"
LEASE_SECONDS = 60
"""The shortest that Prefect grants."""

RENEW_SECONDS = 15.0
ASK_SECONDS = 1.0


@contextmanager
def place_across_hosts(config: StageConfig, node: str, hear: Hear = lambda level, line: None) -> Iterator[None]:
    """Hold a place for a stage that uses a device; wait, and say so, while all are taken. Without the limit do nothing.

    `hear` takes what the run's log should have. Raises StageFailed where the server refuses to grant any.
    """
    if all(device == "cpu" for device in config.devices()):
        yield
        return
    lease = _granted(node, hear)
    with ExitStack() as held:
        if lease is not None:
            held.enter_context(_recorded(lease, hear))
            held.enter_context(_renewed(lease, node, hear))
        yield


def _granted(node: str, hear: Hear) -> UUID | None:
    """Return the lease of a place; None where the server has no such limit.

    It asks in this thread and sleeps between, so that a cancel, a time limit and SIGTERM end it. Prefect's own
    `concurrency` waits in another, which keeps the process of a timed-out run until it gets its place.
    """
    told = None
    while True:
        try:
            with get_client(sync_client=True) as client:
                return _asked(client)
        except HTTPStatusError as error:
            if error.response.status_code != codes.LOCKED:
                cause = f"{error.response.status_code} {error.response.text[:200]}"
                raise StageFailed(
                    f"{node}: no place in the limit {GPU_LIMIT!r} ({cause}); prefect gcl inspect gpu shows it"
                ) from error
            reason = f"all places in Prefect's limit {GPU_LIMIT!r} are taken"
        except HTTPError as error:
            reason = f"Prefect's server, which keeps the limit {GPU_LIMIT!r}, does not answer ({type(error).__name__})"
        if _free_the_dead(hear):
            continue
        if reason != told:
            told = reason
            say(f"{node}: {reason}; waiting")
            hear(logging.INFO, f"{node}: {reason}; waiting")
        if not still_wanted():
            raise StageFailed(f"{node}: its run is gone")
        time.sleep(ASK_SECONDS)


def _asked(client: SyncPrefectClient) -> UUID | None:
    answer = client.increment_concurrency_slots_with_lease([GPU_LIMIT], 1, "concurrency", LEASE_SECONDS)
    granted = ConcurrencyLimitWithLeaseResponse.model_validate(answer.json())
    return granted.lease_id if granted.limits else None


@contextmanager
def _recorded(lease: UUID, hear: Hear) -> Iterator[None]:
    """Keep the file that says that the holder lives; then free the place, or leave that to the next run."""
    path = _folder() / str(lease)
    fresh = path.with_name(f".{lease}")  # it is locked before anybody can find it
    with fresh.open("x") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fresh.rename(path)
        try:
            yield
        finally:
            _free(path, hear)


def _free_the_dead(hear: Hear) -> int:
    """Free the places of this host's dead holders; return of how many."""
    freed = 0
    for path in _folder().glob("[!.]*"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            freed += _free(path, hear)
    return freed


def _free(path: Path, hear: Hear) -> bool:
    """Free the place that the file is named after; return False where no server takes that now, and the file stays."""
    try:
        # Settings make it a client of its own: the run's tries for a minute to reach a server that it once reached.
        with get_client(httpx_settings={}, sync_client=True) as client:
            client.release_concurrency_slots_with_lease(UUID(path.name))
    except HTTPError as error:
        hear(logging.WARNING, f"a place in Prefect's limit {GPU_LIMIT!r} is freed later: its server is away ({error})")
        return False
    path.unlink(missing_ok=True)
    return True


@contextmanager
def _renewed(lease: UUID, node: str, hear: Hear) -> Iterator[None]:
    over = threading.Event()
    renewing = threading.Thread(
        target=copy_context().run, args=(_renew_until, over, lease, node, hear), name="place", daemon=True
    )
    renewing.start()
    try:
        yield
    finally:
        over.set()


def _renew_until(over: threading.Event, lease: UUID, node: str, hear: Hear) -> None:
    while not over.wait(RENEW_SECONDS):
        try:
            with get_client(sync_client=True) as client:
                client.renew_concurrency_lease(lease, LEASE_SECONDS)
        except HTTPStatusError as error:
            if error.response.status_code == codes.GONE and not over.is_set():
                hear(
                    logging.WARNING, f"{node}: Prefect has taken back its place in the limit {GPU_LIMIT!r}; it goes on"
                )
                return
        except HTTPError:  # the next turn tells
            continue


def _folder() -> Path:
    folder = slot_folder() / "places"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder
