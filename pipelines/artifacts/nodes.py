"""Nodes by name, for the commands and flows that take one."""

from difflib import get_close_matches

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import Planner


def node_named(name: str, planner: Planner) -> str:
    """Return the node's name; raise UserError with a suggestion where the plan has none of it."""
    names = [row.node for row in planner.rows]
    if name in names:
        return name
    near = get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names)}"
    raise UserError(f"stage: {name!r} is no node of this plan; {hint}")
