"""lm-eval's own tasks by their official names, from a local mirror or from pinned revisions on the hub."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lm_eval.tasks import TaskManager

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.evaluation.catalog import Group, Member, card, groups, holds, members, open_catalogue
from pipelines.evaluation.harness import LocalLM, run_tasks
from pipelines.evaluation.items import Item
from pipelines.evaluation.official_scores import group_items, group_scores, task_items, task_scores
from pipelines.evaluation.scores import Score

if TYPE_CHECKING:
    from pipelines.evaluation.evaluate import EvaluateConfig


@dataclass(frozen=True)
class Planned:
    """A configured name, what lm-eval is asked to load for it, and what the mirror lacks."""

    name: str
    spec: str | dict[str, Any]
    groups: list[Group]
    absent: list[str]
    notes: dict[str, str]
    """What a mirrored data set says of itself."""


def plan_official(config: "EvaluateConfig", mirror: Path | None) -> tuple[TaskManager, list[Planned]]:
    """Return how each configured task will be run; raise UserError for what cannot be, before any work is done."""
    manager = open_catalogue(config.tasks)
    return manager, [_plan(config, manager, name, mirror) for name in config.tasks]


def _plan(config: "EvaluateConfig", manager: TaskManager, name: str, mirror: Path | None) -> Planned:
    held = members(manager, name)
    data_sets = sorted({member.data_set for member in held if member.data_set})
    cards = {data_set: card(mirror, data_set) for data_set in data_sets} if mirror else {}
    absent = [member for member in held if member.data_set in cards and not holds(cards[member.data_set], member.part)]
    if absent:
        _refuse(config, name, held, absent)
    present = [member for member in held if member not in absent]
    spec: str | dict[str, Any] = name
    if mirror is None or absent:
        tasks = [{"task": member.task, **({} if mirror else _pinned(config, manager, member))} for member in present]
        spec = {"group": f"{name} (in part)", "task": tasks}
    notes = {data_set: str(header["note"]) for data_set, header in cards.items() if header and "note" in header}
    return Planned(name, spec, groups(manager, name), [member.task for member in absent], notes)


def _refuse(config: "EvaluateConfig", name: str, held: list[Member], missing: list[Member]) -> None:
    """Raise UserError unless a group may be scored without the members that the mirror lacks."""
    first = missing[0]
    what = f"{first.data_set} {first.part}" if first.part else str(first.data_set)
    if len(missing) == len(held):
        raise UserError(f"mirror: {config.mirror} lacks {what}, which task {name!r} reads; add it or drop the task")
    if not config.incomplete_groups:
        raise UserError(
            f"mirror: {config.mirror} lacks {len(missing)} of the {len(held)} members of {name!r} ({what} and so on); "
            "add them or set incomplete_groups=true"
        )


def _pinned(config: "EvaluateConfig", manager: TaskManager, member: Member) -> dict[str, Any]:
    """Return the settings that fix the member's data set on the hub: the content behind a bare name may change."""
    if member.data_set is None:
        return {}
    if member.data_set not in config.revisions:
        raise UserError(
            f"revisions: {member.task} reads {member.data_set} from the hub and no commit is named; "
            f"set revisions to {{{member.data_set}: COMMIT}} or name a mirror"
        )
    own = (manager.task_index[member.task].cfg or {}).get("dataset_kwargs") or {}
    return {"dataset_kwargs": {**own, "revision": config.revisions[member.data_set]}}


def run_official(
    config: "EvaluateConfig", manager: TaskManager, planned: Planned, lm: LocalLM
) -> tuple[list[Score], list[Item]]:
    """Return one configured task's scores and their items; raise StageFailed where it cannot be loaded or run."""
    try:
        loaded = manager.load([planned.spec])
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise StageFailed(f"evaluate: task {planned.name} cannot be loaded ({cause})") from error
    runs = run_tasks(lm, planned.name, loaded, limit=config.task_limit, few_shot=config.task_few_shot, seed=config.seed)
    drawn = {"seed": config.seed, "resamples": config.resamples}
    scores = [score for group in planned.groups for score in group_scores(group, runs, **drawn)]
    if scores:
        return scores, [item for group in planned.groups for item in group_items(group, runs)]
    alone = [score for task, run in runs.items() for score in task_scores(task, run, **drawn)]
    return alone, [item for task, run in runs.items() for item in task_items(task, run)]


def notes_of(planned: list[Planned]) -> dict[str, Any]:
    """Return what a reader of the scores must know: absent members, and what stands in for what."""
    absent = {item.name: item.absent for item in planned if item.absent}
    return {
        "absent_members": absent,
        "data_sets": {name: note for item in planned for name, note in item.notes.items()},
    }
