"""Instruction and preference pairs of documented objects: real summaries, and rejected answers of known kinds.

A rejected answer is, in equal parts, another object's true summary of similar length and the right summary damaged.
Objects exchange their summaries two by two, so each summary of these pairs is once chosen and once rejected: what
an answer looks like by itself says nothing, only whether it fits the question.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from pipelines.corpus.documented.objects import DocObject
from pipelines.tokens.ranks import rank

SIMILAR_LENGTH = 0.2
DAMAGES = ("cut", "repeated", "swapped")
KINDS = ("other_object", *DAMAGES)

ASKS = (
    "What does the {kind} {name} do?",
    "What is the {kind} {name} for?",
    "In one sentence, describe the {kind} {name}.",
    "Summarise {name} from {package}.",
    "What does {signature} in {package} do?",
    "I found {signature} in the module {module}. Explain it in a sentence.",
)


def one_a_cluster(objects: Iterable[DocObject], clusters: Iterable[str], seed: int) -> list[DocObject]:
    """Return one object of each cluster, in an order that depends on the seed and the objects alone."""
    chosen: dict[str, tuple[int, DocObject]] = {}
    for found, cluster in zip(objects, clusters, strict=True):
        place = rank(seed, "order", found.id)
        if cluster not in chosen or place < chosen[cluster][0]:
            chosen[cluster] = (place, found)
    return [found for _, found in sorted(chosen.values(), key=lambda item: item[0])]


def question(found: DocObject, seed: int) -> str:
    """Return a question about the object, worded by the seed."""
    ask = ASKS[rank(seed, "ask", found.id) % len(ASKS)]
    package = "the standard library" if found.package == "python" else found.package
    return ask.format(kind=found.kind, name=found.name, package=package, signature=found.signature, module=found.module)


def user(text: str) -> list[dict[str, str]]:
    """Return a conversation of one user's message."""
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    """Return the assistant's message."""
    return [{"role": "assistant", "content": text}]


def instructions(objects: Sequence[DocObject], seed: int, limit: int) -> list[dict[str, Any]]:
    """Return at most `limit` chats: a question about an object and its summary."""
    return [
        {"id": found.id, "messages": user(question(found, seed)) + assistant(found.summary)}
        for found in objects[:limit]
    ]


def preferences(objects: Sequence[DocObject], seed: int, limit: int) -> list[dict[str, Any]]:
    """Return at most `limit` pairs, half with another object's summary, a sixth with each damage."""
    exchanged = _exchanges(objects)
    half = min(limit // 2, len(objects) // 2, len(exchanged))
    half -= half % (2 * len(DAMAGES))  # exchanges come in twos, damages in equal parts
    taken = {found.id for found, _ in exchanged[:half]}
    rest = [found for found in objects if found.id not in taken][:half]
    pairs = [_pair(found, other, "other_object", seed) for found, other in exchanged[:half]]
    for index, found in enumerate(rest):
        kind = DAMAGES[index % len(DAMAGES)]
        pairs.append(_pair(found, damage(found.summary, kind, rank(seed, kind, found.id)), kind, seed))
    return sorted(pairs, key=lambda pair: rank(seed, "preference", pair["id"]))


def _exchanges(objects: Sequence[DocObject]) -> list[tuple[DocObject, str]]:
    """Return objects two by two, each with the other's summary, whose lengths are within a fifth."""
    by_length = sorted(objects, key=lambda found: len(found.summary))  # stable: equal lengths keep the seeded order
    couples: list[tuple[DocObject, DocObject]] = []
    index = 0
    while index + 1 < len(by_length):
        shorter, longer = by_length[index : index + 2]
        fits = similar(shorter.summary, longer.summary)
        if fits:
            couples.append((shorter, longer))
        index += 2 if fits else 1
    place = {found.id: number for number, found in enumerate(objects)}
    couples.sort(key=lambda couple: min(place[couple[0].id], place[couple[1].id]))
    return [pair for one, two in couples for pair in ((one, two.summary), (two, one.summary))]


def similar(one: str, two: str) -> bool:
    """Return whether the lengths differ by no more than a fifth of the shorter."""
    return abs(len(one) - len(two)) <= SIMILAR_LENGTH * min(len(one), len(two))


def _pair(found: DocObject, rejected: str, kind: str, seed: int) -> dict[str, Any]:
    return {
        "id": found.id,
        "prompt": user(question(found, seed)),
        "chosen": assistant(found.summary),
        "rejected": assistant(rejected),
        "kind": kind,
    }


def damage(text: str, kind: str, drawn: int) -> str:
    """Return a text of at least three different words cut short, with words repeated, or with words swapped."""
    parts = text.split()
    if kind == "cut":
        return " ".join(parts[: max(1, len(parts) * (40 + drawn % 31) // 100)])
    if kind == "repeated":
        span = max(2, len(parts) // 3)
        end = span + drawn % (len(parts) - span + 1)
        return " ".join(parts[:end] + parts[end - span : end] + parts[end:])
    return " ".join(_swapped(parts, drawn))


def _swapped(parts: list[str], drawn: int) -> list[str]:
    """Exchange a quarter of the words, at least two, each with a different one further on."""
    mixed = list(parts)
    order = sorted(range(len(parts)), key=lambda index: rank(drawn, str(index)))
    wanted = max(1, len(parts) // 4)
    for left in order:
        right = next((index for index in order if mixed[index] != mixed[left] and mixed[index] == parts[index]), None)
        if mixed[left] != parts[left] or right is None:
            continue
        mixed[left], mixed[right] = mixed[right], mixed[left]
        wanted -= 1
        if not wanted:
            break
    return mixed
