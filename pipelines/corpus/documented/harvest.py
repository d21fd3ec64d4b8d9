"""The `docs` source of examples: from the files of installed packages to objects with their splits."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipelines.artifacts.progress import meter
from pipelines.corpus.documented.clusters import clusters, quoted, split_of
from pipelines.corpus.documented.objects import DocObject, Usable, read_objects
from pipelines.corpus.documented.prose import plain
from pipelines.corpus.documents import PartWriter
from pipelines.tokens.ranks import rank

OBJECTS = pa.schema(
    [(name, pa.int64() if name == "line" else pa.string()) for name in DocObject.__annotations__]
    + [("cluster", pa.string()), ("split", pa.string())]
)


@dataclass(frozen=True, slots=True)
class SplitObject:
    """An object with the cluster of its summary and the split that the cluster fell in."""

    found: DocObject
    cluster: str
    split: str


def harvest(
    packages: Mapping[str, Mapping[str, Path]], usable: Usable, cap: int, seed: int, counts: Counter[str]
) -> list[DocObject]:
    """Return the usable objects of the packages in the order of package, module and line.

    A package's files are read in a seeded order until they have given `cap` objects, so that a cap takes whole
    modules from all over the package.
    """
    objects: dict[str, DocObject] = {}
    with meter("examples", total=sum(len(files) for files in packages.values()), unit="files") as shown:
        for package, files in packages.items():
            given = 0
            for name in sorted(files, key=lambda name: rank(seed, "file", name)):
                if given >= cap:
                    counts["files_beyond_cap"] += 1
                    continue
                for found in read_objects(package, name, files[name], usable, counts):
                    if found.id in objects:  # a module beside a folder of the same name
                        counts["dropped.same_name"] += 1
                        continue
                    objects[found.id] = found
                    given += 1
                shown.advance()
    return sorted(objects.values(), key=lambda found: (found.package, found.module, found.line, found.name))


def split_objects(
    objects: Sequence[DocObject], *, threshold: float, seed: int, fractions: dict[str, float], counts: Counter[str]
) -> list[SplitObject]:
    """Return each object with its split: whole clusters, and outside `train` only what no other text quotes."""
    owners = clusters([found.summary for found in objects], threshold)
    drawn = {owner: split_of(owner, seed, fractions) for owner in set(owners)}
    asked = [found.summary if drawn[owner] != "train" else "" for found, owner in zip(objects, owners, strict=True)]
    for owner in quoted(asked, owners, [plain(found.docstring) for found in objects], threshold):
        drawn[owner] = "train"
        counts["clusters_quoted"] += 1
    counts["clusters"] = len(drawn)
    return [SplitObject(found, owner, drawn[owner]) for found, owner in zip(objects, owners, strict=True)]


def write_objects(path: Path, out: Path, objects: Sequence[SplitObject]) -> None:
    """Write the objects with their clusters and splits."""
    with PartWriter(path, out, OBJECTS) as writer:
        for item in objects:
            writer.write_row({**asdict(item.found), "cluster": item.cluster, "split": item.split})


def read_split(path: Path, split: str) -> Iterator[DocObject]:
    """Yield the objects of one split in the order of the file, a row group at a time."""
    names = list(DocObject.__annotations__)
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(columns=[*names, "split"]):
            for row in batch.to_pylist():
                if row.pop("split") == split:
                    yield DocObject(**row)
