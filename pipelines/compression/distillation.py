"""Distillation on logits: a student learns what the teacher gives the whole vocabulary (Hinton et al., 2015)."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from pipelines.artifacts.curve import Row, write_curve
from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.stage import Metrics
from pipelines.compression.chats import PackedChats, read_chats
from pipelines.compression.distill import DISTILL, DistillConfig
from pipelines.finetuning.contract import check
from pipelines.finetuning.publishing import load_tokenizer, publish, read_template
from pipelines.models.build import build
from pipelines.models.counting import count_parameters
from pipelines.models.loading import load_model
from pipelines.pretraining.loop import Batch, Loop
from pipelines.pretraining.losses import IGNORED, summed_cross_entropy, vocabulary_loss
from pipelines.pretraining.ready import check_special_ids, check_vocabulary, fingerprint, use_machine
from pipelines.pretraining.rng import seed_all
from pipelines.tokens.loader import Samples, TokenShards


class MatchTeacher:
    """The objective of distillation: chats first, then windows of text, in every batch."""

    stage = "distill"

    def __init__(
        self, config: DistillConfig, teacher: Any, text: Samples, chats: PackedChats, heldout: PackedChats, name: Any
    ) -> None:
        self.config, self.teacher = config, teacher.to(config.device).eval().requires_grad_(False)
        self.text, self.chats, self.heldout, self.fingerprint = text, chats, heldout, name
        self.chats_in_batch = round(config.instruction_share * config.global_batch)

    def batch(self, step: int) -> Batch:
        """Return the chats and windows of a step."""
        config, chats = self.config, self.chats_in_batch
        text = config.global_batch - chats
        parts = []
        if chats:
            parts.append(self.chats.take(step * chats, chats, config.seed))
        if text:
            parts.append(self.text.take(step * text, text))
        inputs, targets = zip(*parts, strict=True)
        return torch.cat(inputs), torch.cat(targets)

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the weighted sum of softened KL divergence and cross-entropy over the targets."""
        share, temperature = self.config.ce_share, self.config.temperature

        def mixed(logits: Tensor, expected: Tensor, scores: Tensor) -> Tensor:
            kl = divergence(logits, self._scores(scores), temperature)
            return (1 - share) * kl + share * summed_cross_entropy(logits, expected)

        return self._over(model, inputs, targets, mixed)

    def measure(self, model: Any) -> Row:
        """Return the student's cross-entropy on held-out chats and its KL divergence from the teacher, in nats."""
        if not len(self.heldout):
            return {}
        inputs, targets = self.heldout.spread(self.config.heldout_sequences)
        total = kl = 0.0
        for rows in torch.split(torch.arange(len(inputs)), self.config.micro_batch):
            part = inputs[rows].to(self.config.device), targets[rows].to(self.config.device)
            total += float(self._over(model, *part, lambda logits, expected, _: summed_cross_entropy(logits, expected)))
            kl += float(self._over(model, *part, lambda logits, _, scores: divergence(logits, self._scores(scores))))
        count = int((targets != IGNORED).sum())
        return {"heldout_loss": total / count, "heldout_kl": kl / count}

    def _over(self, model: Any, inputs: Tensor, targets: Tensor, loss: Any) -> Tensor:
        """Return `loss(student's logits, targets, teacher's hidden states)` over the targets that count."""
        counted = targets.flatten() != IGNORED
        with torch.no_grad():
            taught = self.teacher.model(input_ids=inputs, use_cache=False).last_hidden_state
        hidden = model.model(input_ids=inputs, use_cache=False).last_hidden_state
        student, teacher = (states.flatten(0, 1)[counted] for states in (hidden, taught))
        return vocabulary_loss(student, model.lm_head.weight, loss, targets.flatten()[counted], teacher)

    def _scores(self, hidden: Tensor) -> Tensor:
        with torch.no_grad():
            return F.linear(hidden, self.teacher.lm_head.weight)


def divergence(student_NV: Tensor, teacher_NV: Tensor, temperature: float = 1.0) -> Tensor:
    """Return KL(teacher || student) at a temperature, summed over tokens, times its square to keep the gradient."""
    student = F.log_softmax(student_NV.float() / temperature, dim=-1)
    teacher = F.log_softmax(teacher_NV.float() / temperature, dim=-1)
    return F.kl_div(student, teacher, reduction="sum", log_target=True) * temperature**2


def train_student(config: DistillConfig, teacher: Path, train: Path, instructions: Path, out: Path) -> Metrics:
    """Train a student, publish it with the teacher's tokenizer and template, and return the last figures."""
    use_machine(config)
    contract = check(teacher)
    if config.sequence_length > contract.max_length:
        raise UserError(
            f"sequence_length: {config.sequence_length:,} is more than the teacher's {contract.max_length:,}; "
            "make it shorter"
        )
    shards = TokenShards(train)
    check_vocabulary(teacher, shards)
    check_special_ids(teacher)
    tokenizer, template = load_tokenizer(teacher), read_template(teacher)
    chats, counts = read_chats(instructions / "train.jsonl", tokenizer, template, config.sequence_length)
    if config.instruction_share and not len(chats):
        raise EmptyOutput("distill", {name: int(count) for name, count in counts.items()})
    heldout, _ = read_chats(instructions / "heldout.jsonl", tokenizer, template, config.sequence_length)
    master = load_model(teacher, dtype=torch.float32)
    objective = MatchTeacher(
        config,
        master,
        Samples(shards, config.sequence_length, config.seed),
        chats,
        heldout,
        fingerprint(DISTILL, config, teacher=teacher, train=train, instructions=instructions),
    )
    seed_all(config.seed)
    vocabulary = int(master.config.vocab_size)
    student = build(config.size, vocabulary, contract.max_length, attention=config.attention)
    loop = Loop(student, objective, config, out)
    loop.run()
    write_curve(out, loop.position.curve)
    loop.choose_weights()
    publish(student, tokenizer, teacher, template, out / "model")
    return {**counts, "parameters": float(count_parameters(config.size, vocabulary)), **loop.figures()}
