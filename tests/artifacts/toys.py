"""Small real stages for tests of the store: text in, text out."""

from pathlib import Path
from typing import ClassVar

from pydantic import Field

from pipelines.artifacts.pins import FileRoot, Root, source_files
from pipelines.artifacts.stage import Metrics, Stage, StageConfig
from pipelines.artifacts.work import Progress, commit_progress, progress_dir


class SourceConfig(StageConfig):
    runtime: ClassVar[frozenset[str]] = frozenset({"workers"})
    pinned: ClassVar[frozenset[str]] = frozenset({"path"})
    path: Path = Path("missing")
    repeat: int = Field(1, ge=1)
    labels: dict[str, int] = Field(default_factory=dict)
    workers: int = 1

    def roots(self) -> dict[str, Root]:
        return {"path": FileRoot(source_files(self.path, (".txt",), "path"), "path")}


def source(config: SourceConfig, *, out: Path) -> Metrics:
    texts = [path.read_text() for path in source_files(config.path, (".txt",), "path").values()]
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text("".join(texts) * config.repeat)
    (out / "log").mkdir()
    (out / "log" / "workers.txt").write_text(str(config.workers))
    return {"in": len(texts), "kept": len(texts)}


class UpperConfig(StageConfig):
    mark: str = "!"


def upper(config: UpperConfig, *, text: Path, out: Path) -> Metrics:
    (out / "text").mkdir()
    (out / "text" / "all.txt").write_text((text / "all.txt").read_text().upper() + config.mark)
    return {"kept": 1}


class CountConfig(StageConfig):
    steps: int = Field(5, ge=1)
    stop_at: int = Field(0, description="Raises after this many steps, once.")
    runtime: ClassVar[frozenset[str]] = frozenset({"stop_at"})


def count(config: CountConfig, *, text: Path, out: Path) -> Metrics:
    progress = progress_dir(out) / "done"
    done = len(progress.read_text()) if progress.exists() else 0
    for step in range(done, config.steps):
        if config.stop_at == step + 1 and done == 0:
            raise RuntimeError("stopped in the middle")
        progress.write_text("x" * (step + 1))
        commit_progress(out, Progress(step + 1, config.steps, "steps"))
    (out / "count").mkdir(exist_ok=True)
    (out / "count" / "count.txt").write_text(str(config.steps))
    return {"resumed_at": done}


SOURCE = Stage("source", version=1, run=source, libraries=("pydantic",))
UPPER = Stage("upper", version=1, run=upper, libraries=("rich",))
COUNT = Stage("count", version=1, run=count, resumable=True)
