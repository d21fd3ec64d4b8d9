"""lm-eval's catalogue of official tasks: which data sets a name reads and whether they can be had."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import lm_eval.tasks
import yaml
from lm_eval.tasks import TaskManager

from pipelines.artifacts.errors import UserError

FOLDER = Path(lm_eval.tasks.__file__).parent
NAMED = re.compile(r"""^["']?(?:task|group|tag)["']?: *["']?([\w.-]+)["']? *$""", re.MULTILINE)
TAGS = re.compile(r"""^["']?tag["']?: *\n((?: *- *\S+ *(?:\n|$))+)""", re.MULTILINE)
NAME = re.compile(r"""^ *- *["']?([\w.-]+)""", re.MULTILINE)


@dataclass(frozen=True)
class Member:
    """A task that runs by itself, and the data set on the hub that it reads."""

    task: str
    data_set: str | None
    part: str | None
    """The data set's configuration, such as a subject of MMLU."""


def open_catalogue(names: tuple[str, ...]) -> TaskManager:
    """Return lm-eval's index of the folders that hold these names and all that they stand for.

    Its own index parses 13,000 files, which takes ten seconds and more. Raises UserError for a name that is nowhere,
    with the nearest ones.
    """
    folders = _likely_folders(names)
    known: dict[str, Path] = {}
    while True:
        manager = TaskManager(include_defaults=False, include_path=[*folders])
        try:
            for name in names:
                members(manager, name)
        except KeyError as error:
            name = str(error.args[0])
            known = known or _scan()
            if name not in known or known[name] in folders:
                near = get_close_matches(name, known, n=3)
                hint = f"did you mean {', '.join(near)}?" if near else "`lm-eval ls tasks` lists them"
                raise UserError(f"tasks: {name!r} is no task of lm-eval; {hint}") from None
            folders.append(known[name])
        else:
            return manager


def _likely_folders(names: tuple[str, ...]) -> list[Path]:
    """Return, for each name, the folder of tasks with the longest name that it begins with."""
    folders = sorted((item for item in FOLDER.iterdir() if item.is_dir()), key=lambda item: len(item.name))
    likely = ([item for item in folders if f"{name}_".startswith(f"{item.name}_")] for name in sorted(names))
    return [*dict.fromkeys(found[-1] for found in likely if found)]


def _scan() -> dict[str, Path]:
    """Return the folder of each task, group and tag, read from the text of the files without parsing them."""
    found: dict[str, Path] = {}
    for path in sorted(FOLDER.rglob("*.yaml")):
        text = path.read_text(encoding="utf-8")
        tagged = [name for block in TAGS.findall(text) for name in NAME.findall(block)]
        for name in (*NAMED.findall(text), *tagged):
            found.setdefault(name, FOLDER / path.relative_to(FOLDER).parts[0])
    return found


@dataclass(frozen=True)
class Group:
    """A name that lm-eval gives one figure: the mean over its members, by their sizes or each alike."""

    name: str
    metric: str
    filters: tuple[str, ...] | None
    by_size: bool
    members: tuple[str, ...]


def members(manager: TaskManager, item: str | dict[str, Any]) -> list[Member]:
    """Return the tasks that a name or a group's config stands for, itself where it is no group."""
    leaves = (config for config in _walk(manager, item) if "group" not in config)
    found = (Member(leaf["task"], leaf.get("dataset_path"), leaf.get("dataset_name")) for leaf in leaves)
    return list(dict.fromkeys(found))


def groups(manager: TaskManager, name: str) -> list[Group]:
    """Return the figures that lm-eval gives a name and the groups within it."""
    found = []
    for config in _walk(manager, name):
        aggregates = config.get("aggregate_metric_list") or [] if "group" in config else []
        for item in [aggregates] if isinstance(aggregates, dict) else aggregates:
            filters = item.get("filter_list")
            wanted = (filters,) if isinstance(filters, str) else tuple(filters) if filters else None
            tasks = tuple(member.task for member in members(manager, config))
            found.append(Group(config["group"], item["metric"], wanted, item.get("weight_by_size", True), tasks))
    return found


def _walk(manager: TaskManager, item: str | dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the configs of a name: its own, and those of all that it holds."""
    if isinstance(item, str):
        entry = manager.task_index[item]
        if entry.kind.name == "TAG":
            for tagged in sorted(entry.tags):
                yield from _walk(manager, tagged)
            return
        config = entry.cfg or {}
    else:
        entry = manager.task_index.get(item.get("task") if isinstance(item.get("task"), str) else item.get("group"))
        config = {**((entry.cfg or {}) if entry else {}), **item}
    yield config
    if "group" in config and isinstance(config.get("task"), list):
        for child in config["task"]:
            yield from _walk(manager, child)


def card(mirror: Path, data_set: str) -> dict[str, Any] | None:
    """Return the header of a mirrored data set's card, empty where it has none, or None where it is not there.

    In our mirrors its field `note` says what stands in for what.
    """
    folder = mirror / data_set
    if not folder.is_dir():
        return None
    path = folder / "README.md"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    # the safe loader in C: a card of 57 parts takes the other one half a second
    header = yaml.load(text.split("---\n", 2)[1], Loader=yaml.CSafeLoader) if text.startswith("---\n") else None
    return header if isinstance(header, dict) else {}


def holds(header: dict[str, Any] | None, part: str | None) -> bool:
    """Return whether a data set with this card is there and has the part; a card that lists none has any."""
    if header is None:
        return False
    parts = [str(row["config_name"]) for row in header.get("configs", [])]
    return part is None or not parts or part in parts
