"""Counts of the commonest of any number of different things, in bounded memory (Misra and Gries 1982)."""

from collections import Counter
from collections.abc import Mapping
from typing import Any, Self


class Frequent:
    """Counts up to `capacity` different things, exactly while there are no more; then each is at most `lost` too low.

    Two counts merge into one with the same promise (Agarwal et al. 2012), so that parts can be counted side by side.
    """

    def __init__(self, capacity: int, counts: Mapping[str, int] | None = None, lost: int = 0) -> None:
        self.capacity, self.lost = capacity, lost
        self.counts: Counter[str] = Counter(counts or {})

    def add(self, thing: str) -> None:
        """Count one more."""
        self.counts[thing] += 1
        if len(self.counts) > 2 * self.capacity:
            self._shrink()

    def merge(self, other: Self) -> None:
        """Add the other's counts."""
        self.counts.update(other.counts)
        self.lost += other.lost
        self._shrink()

    def top(self, number: int) -> list[tuple[str, int]]:
        """Return the commonest things with their counts, the commonest first, equals by name."""
        self._shrink()
        return sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))[:number]

    def _shrink(self) -> None:
        """Take the largest count that has no place from all, so that at most `capacity` are left."""
        if len(self.counts) <= self.capacity:
            return
        least = sorted(self.counts.values(), reverse=True)[self.capacity]
        self.counts = Counter({thing: count - least for thing, count in self.counts.items() if count > least})
        self.lost += least

    def as_json(self) -> dict[str, Any]:
        """Return the counts, shrunk, as JSON that `Frequent(**…)` reads."""
        self._shrink()
        return {"capacity": self.capacity, "counts": dict(sorted(self.counts.items())), "lost": self.lost}
