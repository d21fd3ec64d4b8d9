"""From the items of lm-eval's official tasks to its figures for tasks and groups, each with an interval."""

from lm_eval.api.metrics import mean

from pipelines.evaluation.catalog import Group
from pipelines.evaluation.harness import TaskRun
from pipelines.evaluation.intervals import bootstrap_statistic, bootstrap_strata, interval_of_mean
from pipelines.evaluation.items import Item, items_of
from pipelines.evaluation.scores import Score


def group_scores(group: Group, runs: dict[str, TaskRun], *, seed: int, resamples: int) -> list[Score]:
    """Return the group's figure for each filter of its members' answers; none where no member was run."""
    return [_group_score(group, only, runs, seed, resamples) for only in _filters(group, runs)]


def task_scores(task: str, run: TaskRun, *, seed: int, resamples: int) -> list[Score]:
    """Return the task's own figures, one for each metric and filter of its answers, items resampled."""
    scores = []
    for only in _filters_of(run):
        rows = [row for row in run.rows if row["filter"] == only]
        for metric in rows[0]["metrics"]:
            aggregate, values = run.aggregation[metric], [row[metric] for row in rows]
            interval = (
                interval_of_mean(values, seed=seed, resamples=resamples)
                if aggregate is mean
                else bootstrap_statistic(values, aggregate, seed=seed, resamples=resamples)
            )
            scores.append(Score(task, _named(metric, only), *interval, len(rows), run.higher_is_better[metric]))
    return scores


def _group_score(group: Group, only: str, runs: dict[str, TaskRun], seed: int, resamples: int) -> Score:
    """Return the group's figure over the members that were run, each resampled within itself."""
    held = {task: runs[task] for task in group.members if task in runs}
    strata = {
        task: [row[group.metric] for row in run.rows if row["filter"] == only and group.metric in row]
        for task, run in held.items()
    }
    weights = None if group.by_size else dict.fromkeys(strata, 1.0)
    value, low, high = bootstrap_strata(strata, weights=weights, seed=seed, resamples=resamples)
    higher = next(iter(held.values())).higher_is_better[group.metric]
    size = sum(map(len, strata.values()))
    return Score(group.name, _named(group.metric, only), value, low, high, size, higher)


def group_items(group: Group, runs: dict[str, TaskRun]) -> list[Item]:
    """Return the items of the group's figures, each with its share in them: members alike, or items alike."""
    found: list[Item] = []
    for only in _filters(group, runs):
        held = {task: runs[task] for task in group.members if task in runs}
        contents, values, weights = [], [], []
        for task, run in held.items():
            rows = [row for row in run.rows if row["filter"] == only and group.metric in row]
            share = 1.0 if group.by_size else 1 / max(len(rows), 1)
            contents += [[task, row["doc"]] for row in rows]
            values += [row[group.metric] * share for row in rows]
            weights += [share] * len(rows)
        higher = next(iter(held.values())).higher_is_better[group.metric]
        name = f"{group.name}.{_named(group.metric, only)}"
        found += items_of(name, contents, values, weights, higher_is_better=higher)
    return found


def task_items(task: str, run: TaskRun) -> list[Item]:
    """Return the items of the task's figures that are means over items; others have no part for an item."""
    found: list[Item] = []
    for only in _filters_of(run):
        rows = [row for row in run.rows if row["filter"] == only]
        for metric in rows[0]["metrics"]:
            if run.aggregation[metric] is mean:
                name, values = f"{task}.{_named(metric, only)}", [float(row[metric]) for row in rows]
                contents = [row["doc"] for row in rows]
                found += items_of(name, contents, values, higher_is_better=run.higher_is_better[metric])
    return found


def _filters(group: Group, runs: dict[str, TaskRun]) -> list[str]:
    """Return the filters of its members' answers that a group is scored for; none where no member was run."""
    found = dict.fromkeys(only for task in group.members if task in runs for only in _filters_of(runs[task]))
    return [only for only in found if group.filters is None or only in group.filters]


def _filters_of(run: TaskRun) -> list[str]:
    return list(dict.fromkeys(row["filter"] for row in run.rows))


def _named(metric: str, only: str) -> str:
    """Return a metric's name as lm-eval writes it, without the filter that does nothing."""
    return metric if only == "none" else f"{metric},{only}"
