"""Cutting a source into shards of about equal bytes, which depend on its files and `shard_bytes` and on nothing else.

JSON lines are cut at any byte, since a reader finds the next line by itself; Parquet between row groups; any other
file is read whole, because where a record begins in it is known only by reading. Small files share a shard.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Protocol

from pipelines.artifacts.errors import UserError

MAX_SHARDS = 100_000
"""Part names carry five digits, which keeps their order by name and by number the same."""
PACKED = (".gz", ".zst", ".lz4", ".bz2", ".xz")
PACKED_RATIO = 5
"""Bytes of pages or text in a byte of a compressed file, roughly: shards are to be alike in work, not on disk."""


@dataclass(frozen=True, slots=True)
class Slice:
    """What begins in a file at `start` or later and before `end`: bytes of JSON lines, row groups of Parquet."""

    name: str
    path: Path
    start: int = 0
    end: int | None = None
    """None is the end of the file."""


Sized = tuple[Slice, int]
"""A slice and its bytes."""


class Cuttable(Protocol):
    """A source, as far as its files can be cut."""

    def cut(self, name: str, path: Path, shard_bytes: int) -> Iterable[Sized]:
        """Return a file as slices that can be read by themselves, with the bytes of each."""


def shards_of(source: Cuttable, files: Mapping[str, Path], shard_bytes: int) -> tuple[tuple[Slice, ...], ...]:
    """Return the slices of each shard, in file order; raise UserError when there would be too many shards."""
    sized = (piece for name, path in files.items() for piece in source.cut(name, path, shard_bytes))
    shards = tuple(grouped(sized, shard_bytes))
    if len(shards) > MAX_SHARDS:
        raise UserError(
            f"ingest.shard_bytes: {shard_bytes:,} makes {len(shards):,} shards of this source, over {MAX_SHARDS:,}; "
            f"set at least {shard_bytes * len(shards) // MAX_SHARDS + 1:,}"
        )
    return shards


def cut_anywhere(whole: Slice, size: int, shard_bytes: int) -> list[Sized]:
    """Return equal slices of a file of `size` bytes, none over `shard_bytes`."""
    count = max(-(-size // shard_bytes), 1)
    edges = [size * index // count for index in range(count + 1)]
    return [
        (Slice(whole.name, whole.path, start, end if end < size else None), end - start)
        for start, end in pairwise(edges)
    ]


def cut_between(whole: Slice, sizes: list[int], shard_bytes: int) -> list[Sized]:
    """Return slices of consecutive units of these bytes, over `shard_bytes` only where a single unit is."""
    edges, held = [0], 0
    for index, size in enumerate(sizes):
        if index > edges[-1] and held + size > shard_bytes:
            edges.append(index)
            held = 0
        held += size
    edges.append(len(sizes))
    before = [0, *accumulate(sizes)]
    return [
        (Slice(whole.name, whole.path, start, end if end < len(sizes) else None), before[end] - before[start])
        for start, end in pairwise(edges)
    ]


def grouped(sized: Iterable[Sized], shard_bytes: int) -> Iterator[tuple[Slice, ...]]:
    """Yield the slices in order, as many together as fit in `shard_bytes`."""
    shard: list[Slice] = []
    held = 0
    for piece, size in sized:
        if shard and held + size > shard_bytes:
            yield tuple(shard)
            shard, held = [], 0
        shard.append(piece)
        held += size
    if shard:
        yield tuple(shard)


def row_group_bytes(path: Path) -> list[int]:
    """Return the uncompressed bytes of each row group, or nothing for a file that is no Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        footer = pq.read_metadata(path)
    except (pa.ArrowException, OSError):
        return []
    return [footer.row_group(index).total_byte_size for index in range(footer.num_row_groups)]
