"""Next-token prediction on token shards: the checks, the objective, and what is published."""

from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.artifacts.curve import Row, write_curve
from pipelines.artifacts.stage import Metrics
from pipelines.models.build import build
from pipelines.models.sizes import count_parameters, flops_per_token
from pipelines.pretraining.continuing import first_sample, read_state, run_facts, write_state
from pipelines.pretraining.heldout import Heldout
from pipelines.pretraining.loop import Batch, Loop
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.pretrain import PRETRAIN, PretrainConfig
from pipelines.pretraining.publish import publish_base
from pipelines.pretraining.ready import check_special_ids, check_vocabulary, fingerprint, use_machine
from pipelines.pretraining.rng import seed_all
from pipelines.pretraining.saving import gathered
from pipelines.pretraining.world import ALONE, World
from pipelines.tokens.loader import Samples, TokenShards


class NextToken:
    """The objective of pre-training: the windows in the seed's order, from the global sample `first` on."""

    stage = "pretrain"

    def __init__(
        self,
        samples: Samples,
        heldout: Heldout,
        *,
        first: int,
        global_batch: int,
        fingerprint: dict[str, Any],
        flops_per_token: int,
    ) -> None:
        self.samples, self.heldout, self.flops_per_token = samples, heldout, flops_per_token
        self.first, self.global_batch, self.fingerprint = first, global_batch, fingerprint

    def next_sample(self, step: int) -> int:
        """Return the global number of the first sample of a step."""
        return self.first + step * self.global_batch

    def batch(self, step: int) -> Batch:
        """Return the windows of a step."""
        return self.samples.take(self.next_sample(step), self.global_batch)

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy."""
        return causal_cross_entropy(model, inputs, targets)

    def measure(self, model: Any) -> Row:
        """Return held-out loss and bits per byte."""
        return self.heldout.measure(model)


def train_base(
    config: PretrainConfig, train: Path, heldout: Path, tokenizer: Path, out: Path, world: World = ALONE
) -> Metrics:
    """Train a base model and publish it, its state and its curve; return the last figures.

    Every process of `world` must call it; the first one publishes.
    """
    use_machine(config)
    shards, held = TokenShards(train), TokenShards(heldout)
    check_vocabulary(tokenizer, shards, held)
    check_special_ids(tokenizer)
    facts = run_facts(config, train, shards.tokenizer_digest)
    earlier = config.state_folder()
    state = None if earlier is None else read_state(earlier, facts)
    objective = NextToken(
        Samples(shards, config.sequence_length, config.seed),
        Heldout(held, tokenizer, config.sequence_length, count=config.heldout_sequences, rows=config.micro_batch),
        first=first_sample(state, facts),
        global_batch=config.global_batch,
        fingerprint=fingerprint(PRETRAIN, config, train=train, heldout=heldout, init_from=earlier),
        flops_per_token=flops_per_token(config.size, shards.vocab_size, config.sequence_length),
    )
    seed_all(config.seed)
    model = build(config.size, shards.vocab_size, config.sequence_length, attention=config.attention)
    loop = Loop(model, objective, config, out, world)
    if state is not None:
        loop.load(state)
    loop.run()
    final = gathered(loop.snapshot(), world)
    if world.first:
        write_state(out / "state", final, facts, objective.next_sample(loop.position.batch))
        write_curve(out, loop.position.curve)
    loop.choose_weights()
    chosen = gathered(loop.snapshot(), world).tensors["model"]
    if world.first:
        if world.shards > 1:  # the loop's model holds this process's rows only
            model = build(config.size, shards.vocab_size, config.sequence_length, attention=config.attention)
            model.load_state_dict(dict(chosen), strict=False)
        publish_base(model, tokenizer, out / "model")
    return {"parameters": float(count_parameters(config.size, shards.vocab_size)), **loop.figures()}
