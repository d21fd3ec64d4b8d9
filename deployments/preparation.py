"""What a server holds before a run of ours meets it; made once, and left alone where somebody changed it."""

from datetime import timedelta

from prefect.client.orchestration import PrefectClient
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from deployments.prefect_settings import SILENT_SECONDS, WATCHED_TAG

GPU = "gpu"
ZOMBIES = "gristmill: a run whose heartbeats stop is Crashed"


async def prepare(client: PrefectClient) -> None:
    """Make the concurrency limit `gpu` and the automation that ends runs of dead processes, where there are none."""
    try:
        await client.read_global_concurrency_limit_by_name(GPU)
    except ObjectNotFound:
        await client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=GPU, limit=1))
    if not await client.read_automations_by_name(ZOMBIES):
        await client.create_automation(zombies())


def zombies() -> AutomationCore:
    """Return the automation: after a heartbeat of a run of ours, another of its events or its end as Crashed."""
    return AutomationCore(
        name=ZOMBIES,
        description="The process of the run is gone: it was killed, or its host was lost.",
        trigger=EventTrigger(
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification(
                {"prefect.resource.id": f"prefect.tag.{WATCHED_TAG}", "prefect.resource.role": "tag"}
            ),
            after={"prefect.flow-run.heartbeat"},
            expect={"prefect.flow-run.*"},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=SILENT_SECONDS),
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.CRASHED,
                message=f"no heartbeat for {SILENT_SECONDS} s: its process is gone; run it again to go on where it was",
            )
        ],
    )
