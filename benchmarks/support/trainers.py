"""One way of pre-training a Llama, in a process of its own that waits for its turns: ours, a plain loop, HF Trainer.

Usage: `python trainers.py SPEC` with SPEC a JSON object of the fields of `Spec`. The process prints a line when its
first step is done, then reads a line before each turn and prints one after it: seconds, and the losses of all steps
so far. It needs torch, transformers, numpy, safetensors and pydantic only, and accelerate for HF Trainer.
"""

import dataclasses
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.models.build import build
from pipelines.pretraining.compiling import compile_blocks
from pipelines.pretraining.loop import Loop
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.optimizer import build_optimizers, clip_gradients, set_lr
from pipelines.pretraining.schedule import lr_scale
from pipelines.pretraining.settings import LoopConfig

PROTOCOL = sys.stdout
CPU_DTYPE = "bf16" if torch.ops.mkldnn._is_mkldnn_bf16_supported() else "fp32"
"""What a CPU trains in: bf16 where it has its products, which torch else emulates a hundredfold slower."""


@dataclasses.dataclass(frozen=True)
class Spec:
    """What is trained, and by whom."""

    engine: str
    compiled: bool
    size: str
    vocab_size: int
    sequence_length: int
    global_batch: int
    micro_batch: int
    steps_a_turn: int
    turns: int
    dtype: str
    device: str
    data: str
    """File of ids, `[samples, sequence_length + 1]`."""
    seed: int = 0
    """Draws the first weights."""
    heldout: str | None = None
    """File of ids whose loss is told at the end."""

    @property
    def steps(self) -> int:
        """Steps that are taken: the first one, which compiles, those of the turns, and one that ends the last."""
        return 1 + self.steps_a_turn * self.turns + 1

    def config(self) -> LoopConfig:
        """Return the settings that all engines share."""
        return LoopConfig(
            sequence_length=self.sequence_length,
            global_batch=self.global_batch,
            micro_batch=self.micro_batch,
            max_steps=self.steps,
            lr=1e-3,
            warmup_steps=10,
            schedule="cosine",
            dtype=self.dtype,  # type: ignore[arg-type]
            device=self.device,  # type: ignore[arg-type]
            attention="blockwise" if self.device == "cpu" and self.engine == "ours" else "sdpa",
            compile="always" if self.compiled and self.engine == "ours" else "never",
            heldout_every=self.steps + 1,
            checkpoint_every=self.steps + 1,
            log_interval=self.steps + 1,
        )

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return inputs and targets of a step."""
        ids = np.load(self.data, mmap_mode="r")
        rows = np.arange(step * self.global_batch, (step + 1) * self.global_batch) % len(ids)
        batch = torch.from_numpy(ids[rows].astype(np.int64))
        return batch[:, :-1].contiguous(), batch[:, 1:].contiguous()


class Turns:
    """Holds a training run at the start of each turn until it is told to go on."""

    def __init__(self, spec: Spec) -> None:
        self.spec, self.step, self.losses = spec, 0, list[float]()
        self._since, self._cpu_since = time.perf_counter(), time.process_time()

    def step_begins(self) -> None:
        """Count a step; where a turn ends, tell its seconds and wait for the next."""
        done = self.step - 1
        if self.step and done % self.spec.steps_a_turn == 0:
            if self.spec.device == "cuda":
                torch.cuda.synchronize()
            cpu_seconds = time.process_time() - self._cpu_since
            self._tell({"seconds": time.perf_counter() - self._since, "cpu_seconds": cpu_seconds})
            if not sys.stdin.readline():
                sys.exit("the benchmark that gives the turns is gone")
            self._since, self._cpu_since = time.perf_counter(), time.process_time()
        self.step += 1

    def end(self, model: Any) -> None:
        """Tell what is known at the end."""
        row: dict[str, Any] = {"losses": self.losses, "heldout_nats": heldout_nats(self.spec, model)}
        row["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        if self.spec.device == "cuda":
            row["memory"] = torch.cuda.max_memory_allocated()
        self._tell(row)

    def _tell(self, row: dict[str, Any]) -> None:
        print(json.dumps(row), file=PROTOCOL, flush=True)


def heldout_nats(spec: Spec, model: Any) -> float | None:
    """Return the summed loss of the held-out windows by transformers' own forward pass; None where there are none."""
    if spec.heldout is None:
        return None
    model.eval()
    windows, total = torch.from_numpy(np.load(spec.heldout).astype(np.int64)), 0.0
    with torch.no_grad():
        for ids in torch.split(windows, spec.micro_batch):
            logits = model(input_ids=ids[:, :-1].to(spec.device), use_cache=False).logits.float()
            targets = ids[:, 1:].to(spec.device)
            total += float(F.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="sum"))
    return total


class Recorded:
    """Our loop's objective over the recorded ids, which keeps the turns."""

    stage = "benchmark"
    fingerprint: Any = "benchmark"
    flops_per_token = 0

    def __init__(self, spec: Spec, turns: Turns) -> None:
        self.spec, self.turns, self.parts = spec, turns, 0

    def batch(self, step: int) -> tuple[Tensor, Tensor]:
        """Return the batch of a step."""
        return self.spec.batch(step)

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed loss; a step begins where the first of its micro-batches does."""
        if self.parts % -(-self.spec.global_batch // self.spec.micro_batch) == 0:
            self.turns.step_begins()
        self.parts += 1
        return causal_cross_entropy(model, inputs, targets)

    def measure(self, _model: Any) -> dict[str, float]:
        """Measure nothing."""
        return {}


def ours(spec: Spec, model: Any, turns: Turns) -> None:
    """Our loop: our attention on a CPU, chunked cross-entropy."""
    with tempfile.TemporaryDirectory() as out:
        loop = Loop(model, Recorded(spec, turns), spec.config(), Path(out))
        loop.run()
    turns.losses = [row["loss"] for row in loop.position.curve]


def plain(spec: Spec, model: Any, turns: Turns) -> None:
    """A plain loop on transformers' model with SDPA, its own loss, and torch's fused AdamW."""
    config = spec.config()
    model.to(spec.device)
    if spec.compiled:
        compile_blocks(model)
    optimizers = build_optimizers(model, config)
    losses = []
    for step in range(spec.steps):
        turns.step_begins()
        inputs, targets = (part.to(spec.device) for part in spec.batch(step))
        total = torch.zeros((), device=spec.device)
        for rows in torch.split(torch.arange(len(inputs)), spec.micro_batch):
            with torch.autocast(spec.device, dtype=torch.bfloat16, enabled=spec.dtype == "bf16"):
                part = model(input_ids=inputs[rows], use_cache=False, labels=targets[rows], shift_labels=targets[rows])
                loss = part.loss * len(rows) / len(inputs)
            loss.backward()
            total += loss.detach()
        clip_gradients(model, config.clip)
        set_lr(optimizers, config.lr * lr_scale(config, step))
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        losses.append(total)
    turns.losses = [float(loss) for loss in losses]


def trainer(spec: Spec, model: Any, turns: Turns) -> None:
    """HF Trainer: fused AdamW, SDPA, data in memory, nothing logged or saved."""
    from torch.optim.lr_scheduler import LambdaLR
    from torch.utils.data import SequentialSampler
    from transformers import Trainer, TrainingArguments

    config = spec.config()
    accumulated = -(-spec.global_batch // spec.micro_batch)
    parts: list[Tensor] = []

    class InOrder(Trainer):
        def _get_train_sampler(self, dataset: Any = None) -> SequentialSampler:
            return SequentialSampler(dataset or self.train_dataset)

        def training_step(self, *given: Any, **named: Any) -> Tensor:
            if len(parts) % accumulated == 0:
                turns.step_begins()
            parts.append(super().training_step(*given, **named))
            return parts[-1]

    batches = [spec.batch(step) for step in range(spec.steps)]
    rows = [
        {"input_ids": one, "labels": other, "shift_labels": other}
        for inputs, targets in batches
        for one, other in zip(inputs, targets, strict=True)
    ]
    if spec.compiled:
        os.environ["ACCELERATE_DYNAMO_USE_REGIONAL_COMPILATION"] = "true"
    optimizers = build_optimizers(model.to(spec.device), config)
    with tempfile.TemporaryDirectory() as out:
        arguments = TrainingArguments(
            output_dir=out,
            per_device_train_batch_size=spec.micro_batch,
            gradient_accumulation_steps=accumulated,
            max_steps=spec.steps,
            max_grad_norm=config.clip,
            bf16=spec.dtype == "bf16",
            use_cpu=spec.device == "cpu",
            torch_compile=spec.compiled,
            remove_unused_columns=False,
            dataloader_pin_memory=False,
            save_strategy="no",
            logging_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        schedule = LambdaLR(optimizers[0], lambda step: lr_scale(config, step))
        InOrder(model, arguments, train_dataset=rows, optimizers=(optimizers[0], schedule)).train()
    losses = torch.stack(parts).view(-1, accumulated)
    turns.losses = losses.sum(1).tolist()


ENGINES: dict[str, Callable[[Spec, Any, Turns], None]] = {"ours": ours, "plain": plain, "trainer": trainer}


def main(spec: Spec) -> None:
    """Train from the same first weights as every other process of this benchmark."""
    torch.manual_seed(spec.seed)
    config = spec.config()
    model = build(spec.size, spec.vocab_size, spec.sequence_length, attention=config.attention)  # type: ignore[arg-type]
    turns = Turns(spec)
    with redirect_stdout(sys.stderr):
        model.train()
        ENGINES[spec.engine](spec, model, turns)
    turns.end(model)


if __name__ == "__main__":
    main(Spec(**json.loads(sys.argv[1])))
