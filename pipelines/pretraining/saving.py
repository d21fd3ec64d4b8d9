"""The checkpoints of a run: written beside the training, whole or not at all, the newest few kept."""

import logging
import shutil
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path

import torch
from safetensors import SafetensorError
from torch import Tensor

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.work import fsync_dir
from pipelines.pretraining.checkpoint import (
    DamagedCheckpoint,
    Offset,
    Part,
    Snapshot,
    check_files,
    read_files,
    write_files,
)
from pipelines.pretraining.sharding import held, offset
from pipelines.pretraining.world import ALONE, World

logger = logging.getLogger(__name__)

NONE, ALL_DAMAGED = -1, -2


class Checkpoints:
    """The checkpoints of one run, the newest `keep` of them.

    A save copies the state to host memory, and a thread writes the copy while training goes on; a next save waits for
    it. What all processes have written becomes the checkpoint by one rename, in `settle`.
    """

    def __init__(self, folder: Path, keep: int, world: World = ALONE) -> None:
        self.folder, self.keep, self.world = folder, keep, world
        self.part = part_of(world)
        self.staging = Staging(world)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="checkpoint")
        self._writing: tuple[int, Future[None]] | None = None
        if world.first:
            folder.mkdir(parents=True, exist_ok=True)
            self._tidy()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        """End the thread when it has finished what it is writing, and publish that where training has failed."""
        self._thread.shutdown(wait=True)

    def remove_after(self, step: int) -> None:
        """Remove the states of later steps, which belong to another course of the run."""
        self.settle(now=True)
        for later in self.steps() if self.world.first else []:
            if later > step:
                self._take_away(later)
        self.world.wait()

    def steps(self) -> list[int]:
        """Return the steps of whole checkpoints, oldest first."""
        return sorted(int(path.name.removeprefix("step-")) for path in self.folder.glob("step-*[0-9]"))

    def path(self, step: int) -> Path:
        """Return where the checkpoint after so many steps is."""
        return self.folder / f"step-{step:06d}"

    def newest(self) -> Snapshot | None:
        """Return the newest snapshot whose files are as written, or None where there is no checkpoint at all.

        Says which ones are damaged and puts them aside. Raises UserError when all are: what was trained is not thrown
        away unasked.
        """
        self.settle(now=True)
        step = int(self.world.said_by_first([self._newest_sound() if self.world.first else NONE])[0])
        if step == ALL_DAMAGED:
            raise UserError(
                f"checkpoints: all in {str(self.folder)!r} are damaged; put a sound copy there, or remove that folder "
                "to start at step 0"
            )
        return None if step == NONE else read_files(self.path(step))

    def save(self, step: int, snapshot: Snapshot) -> int | None:
        """Begin to write the state after `step` steps; return the step of the save that this one had to wait for."""
        earlier = self.settle(now=True)
        copy, offsets = self.staging.copy(snapshot)
        self._writing = step, self._thread.submit(self._write, step, copy, offsets)
        return earlier

    def settle(self, *, now: bool = False) -> int | None:
        """Publish the checkpoint being written if all processes are done with it, and return its step.

        `now` waits until they are. A checkpoint that could not be written is said and left out: the ones before stay.
        """
        if self._writing is None:
            return None
        step, writing = self._writing
        if now:
            wait([writing])
        if not self.world.all(writing.done()):
            return None
        self._writing = None
        error = writing.exception()
        if error is not None and not isinstance(error, OSError | SafetensorError):
            raise error
        failed = self.world.any(error is not None)
        if error is not None:
            logger.warning("checkpoint step-%06d could not be written (%s); the ones before stay", step, error)
        if self.world.first:
            (self._remove if failed else self._publish)(self.path(step).with_suffix(".tmp"))
        self.world.wait()
        return None if failed else step

    def finish(self, step: int, stage: str) -> int | None:
        """Wait for the save of the last step and return it; raise StageFailed when it could not be written."""
        settled = self.settle(now=True)
        if step and not self.path(step).exists():
            raise StageFailed(
                f"{stage}: the checkpoint after step {step} could not be written to {str(self.folder)!r}; the whole "
                f"ones are of steps {self.steps()}; free some space and run again to go on"
            )
        if self.world.first:
            self._prune(self.keep)
        return settled

    def _newest_sound(self) -> int:
        for step in reversed(self.steps()):
            try:
                check_files(self.path(step))
            except DamagedCheckpoint as error:
                logger.warning("checkpoint step-%06d is damaged (%s); going back to the one before", step, error)
                self._remove(self.path(step).with_suffix(".damaged"))
                self.path(step).rename(self.path(step).with_suffix(".damaged"))
            else:
                return step
        return ALL_DAMAGED if any(self.folder.glob("step-*.damaged")) else NONE

    def _write(self, step: int, snapshot: Snapshot, offsets: Mapping[str, Mapping[str, Offset]]) -> None:
        if self.world.first:
            fsync_dir(self.folder)  # the newest is on the disk under its name before an older one goes
            self._prune(self.keep)
        if self.part is not None:
            write_files(self.path(step).with_suffix(".tmp"), snapshot, self.part, offsets)

    def _publish(self, fresh: Path) -> None:
        final = fresh.with_suffix("")
        if final.exists():  # a run that was set back to an earlier step comes by again
            final.rename(final.with_suffix(".old"))
        fresh.rename(final)
        fsync_dir(self.folder)
        self._remove(final.with_suffix(".old"))

    def _prune(self, keep: int) -> None:
        for step in self.steps()[:-keep]:
            self._take_away(step)
        if self.steps():
            for damaged in self.folder.glob("step-*.damaged"):
                self._remove(damaged)

    def _tidy(self) -> None:
        """Remove what a killed process left unfinished, and take back what it was about to replace."""
        for unfinished in self.folder.glob("step-*.tmp"):
            self._remove(unfinished)
        for replaced in self.folder.glob("step-*.old"):
            if replaced.with_suffix("").exists():
                self._remove(replaced)
            else:
                replaced.rename(replaced.with_suffix(""))

    def _take_away(self, step: int) -> None:
        doomed = self.path(step).with_suffix(".tmp")
        self.path(step).rename(doomed)
        self._remove(doomed)

    def _remove(self, folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)


def part_of(world: World) -> Part | None:
    """Return which part of a checkpoint a process writes: of copies of the model the first one's processes do."""
    place, (stages, _, shards, tensors) = world.place, world.parallel.sizes
    if place["dp_replicate"]:
        return None
    return Part((place["pp"] * shards + place["dp_shard"]) * tensors + place["tp"], stages * shards * tensors)


class Staging:
    """Copies of a state in host memory, in buffers that are kept from save to save."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._buffers: dict[tuple[str, str], Tensor] = {}

    def copy(self, snapshot: Snapshot) -> tuple[Snapshot, dict[str, dict[str, Offset]]]:
        """Return the part of a state that this process writes, and where in the whole its tensors begin.

        What several processes hold one of them writes. The buffers are the caller's until the next copy.
        """
        groups: dict[str, dict[str, Tensor]] = {}
        offsets: dict[str, dict[str, Offset]] = {}
        for group, tensors in snapshot.tensors.items():
            copies, starts = groups.setdefault(group, {}), offsets.setdefault(group, {})
            for name, tensor in tensors.items():
                if self.world.owns(name, tensor):
                    starts[name] = offset(tensor)
                    copies[name] = self._into_buffer((group, name), held(tensor.detach()))
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            torch.cuda.synchronize()
        return Snapshot(groups, snapshot.facts, list(snapshot.curve)), offsets

    def _into_buffer(self, key: tuple[str, str], tensor: Tensor) -> Tensor:
        buffer = self._buffers.get(key)
        if buffer is None or buffer.shape != tensor.shape or buffer.dtype != tensor.dtype:
            buffer = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=tensor.is_cuda)
            self._buffers[key] = buffer
        return buffer.copy_(tensor, non_blocking=True)
