"""Next-token prediction on token shards: the checks, the objective, and what is published."""

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from torch import Tensor

from pipelines.artifacts.curve import Row, write_curve
from pipelines.artifacts.stage import Metrics
from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.build import build
from pipelines.models.counting import count_parameters, flops_per_token
from pipelines.pretraining.averaging import Averages
from pipelines.pretraining.combination import check_combination
from pipelines.pretraining.continuing import first_sample, read_state, run_facts, write_state
from pipelines.pretraining.corruption import Corruption, MaskedTokens
from pipelines.pretraining.curvature import drawn_targets
from pipelines.pretraining.experts import ExpertUse
from pipelines.pretraining.heldout import CorruptedHeldout, Heldout, Loss
from pipelines.pretraining.infilling import BlankedSpans, Blanks, infilling_cross_entropy
from pipelines.pretraining.loop import Batch, Loop
from pipelines.pretraining.losses import causal_cross_entropy, masked_cross_entropy, seq2seq_cross_entropy
from pipelines.pretraining.objectives import OBJECTIVES, objective_of, work_of
from pipelines.pretraining.prefix import Prefixes, prefix_cross_entropy
from pipelines.pretraining.pretrain import PRETRAIN, PretrainConfig
from pipelines.pretraining.publish import publish_base
from pipelines.pretraining.ready import check_special_ids, check_vocabulary, fingerprint, use_machine
from pipelines.pretraining.rng import seed_all
from pipelines.pretraining.spans import LeftOutSpans, Sentinels, SpanNoise
from pipelines.pretraining.world import ALONE, World
from pipelines.tokens.loader import Samples, TokenShards
from pipelines.tokens.mixing import Corpus, Mixture, seed_of
from pipelines.tokens.positions import document_positions
from pipelines.tokens.prefetch import Prefetched


class NextToken:
    """The objective of pre-training: the windows in the seed's order, from the global sample `first` on.

    Every target counts, a `<|bos|>` behind a document as well: it is how the model says that the document is over, and
    with `document_mask` no more of the next one is seen than that.
    """

    stage = "pretrain"

    def __init__(
        self,
        mixture: Mixture,
        heldout: Heldout | CorruptedHeldout,
        *,
        first: int,
        global_batch: int,
        fingerprint: dict[str, Any],
        flops_per_token: int,
        document_mask: bool = False,
        experts: ExpertUse | None = None,
        corruption: Corruption | None = None,
    ) -> None:
        self.corruption = corruption
        self.mixture, self.heldout, self.document_mask = mixture, heldout, document_mask
        self.flops_per_token, self.experts = flops_per_token, experts
        self.first, self.global_batch, self.fingerprint = first, global_batch, fingerprint
        self._slice = (0, global_batch)
        self._ahead = Prefetched(self._reading(*self._slice))

    def next_sample(self, step: int) -> int:
        """Return the global number of the first sample of a step."""
        return self.first + step * self.global_batch

    def batch(self, step: int) -> Batch:
        """Return the windows of a step."""
        return self.rows(step, 0, self.global_batch)

    def rows(self, step: int, start: int, stop: int) -> Batch:
        """Return rows `start` to before `stop` of a step's windows; those of the next steps are read meanwhile."""
        if self._slice != (start, stop):
            self._slice, self._ahead = (start, stop), Prefetched(self._reading(start, stop))
        return self._ahead(step)

    def _reading(self, start: int, stop: int) -> Callable[[int], Batch]:
        # It holds no reference to this object, whose end is the end of the thread.
        mixture, corruption, first, size = self.mixture, self.corruption, self.first, self.global_batch

        def read(step: int) -> Batch:
            number = first + step * size + start
            windows = mixture.take(number, stop - start)
            return corruption(windows, number) if corruption else windows

        return read

    def document_ids(self, step: int) -> list[str]:
        """Return the ids of the documents of a step, each once.

        On an image without pyarrow, which reads them, it is the places of the windows in their streams instead.
        """
        places = self.mixture.places(self.next_sample(step), self.global_batch)
        if find_spec("pyarrow") is None:
            return [f"{folder}[{start}:{end}]" for folder, spans in places.items() for start, end in spans]
        from pipelines.tokens.spans import Spans

        return [name for folder, spans in places.items() for name in Spans(folder).documents(spans)]

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy."""
        return causal_cross_entropy(model, inputs, targets, self.positions(inputs), self.experts)

    def positions(self, inputs: Tensor) -> Tensor | None:
        """Return each token's place in its document where documents do not see each other."""
        return document_positions(inputs) if self.document_mask else None

    def figures(self, world: World) -> Row:
        """Return how evenly the experts of a mixture were used since the last call."""
        return self.experts.figures(world) if self.experts else {}

    def drawn(self, model: Any, inputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        """Return targets drawn from the model's own distribution in the places of those that count."""
        positions = document_positions(inputs) if self.document_mask else None
        return drawn_targets(model, inputs, targets, uniform, positions)

    def measure(self, model: Any) -> Row:
        """Return held-out loss and bits per byte."""
        return self.heldout.measure(model)


class LeftOut(NextToken):
    """The same windows with something left out, which is what is predicted."""

    def __init__(self, *windows: Any, losses: Loss, corruption: Corruption, **settings: Any) -> None:
        super().__init__(*windows, corruption=corruption, **settings)
        self.losses, self.tokens = losses, corruption.tokens

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        """Return the summed cross-entropy of what was left out."""
        return self.losses(model, inputs, targets)


def train_base(
    config: PretrainConfig, train: Path, heldout: Path, tokenizer: Path, out: Path, world: World = ALONE
) -> Metrics:
    """Train a base model and publish it, its state and its curve; return the last figures.

    Every process of `world` must call it; the first one publishes.
    """
    check_combination(config)
    use_machine(config)
    shards, held = TokenShards(train), TokenShards(heldout)
    others = [TokenShards(corpus.shards) for corpus in config.mixture.corpora]
    check_vocabulary(tokenizer, shards, held, *others)
    check_special_ids(tokenizer)
    facts = run_facts(config, train, shards.tokenizer_digest)
    earlier = config.state_folder()
    state = None if earlier is None else read_state(earlier, facts)
    objective = objective_for(
        config,
        shards.vocab_size,
        mixture_of(config, shards, others),
        Heldout(
            held,
            tokenizer,
            config.sequence_length,
            count=config.heldout_sequences,
            rows=config.micro_batch,
            document_mask=config.document_mask,
        ),
        first=first_sample(state, facts),
        global_batch=config.global_batch,
        fingerprint=fingerprint(
            PRETRAIN,
            config,
            train=train,
            heldout=heldout,
            init_from=earlier,
            **{f"mixture.{number}": other.folder for number, other in enumerate(others)},
        ),
    )
    objective.mixture.require(objective.first, objective.next_sample(config.max_steps))
    seed_all(config.seed)
    model = _built(config, shards.vocab_size)
    loop = Loop(model, objective, config, out, world)
    if state is not None:
        loop.load(state)
    loop.run()
    final = loop.whole()
    if world.first:
        write_state(out / "state", final, facts, objective.next_sample(loop.position.batch))
        write_curve(out, loop.position.curve)
        if world.mesh is not None:  # the loop's model holds this process's part only
            model = _built(config, shards.vocab_size)
            model.load_state_dict(dict(final.tensors["model"]), strict=False)
        averages = Averages(model, config)
        averages.load(final.tensors["averages"])
        averages.into_model()
        publish_base(model, tokenizer, out / "model")
    return {
        "parameters": float(
            count_parameters(
                config.size,
                shards.vocab_size + OBJECTIVES[objective_of(config.objective, config.architecture)].extra_ids,
                architecture=config.architecture,
                max_length=config.sequence_length,
                tied=config.options.tied,
            )
        ),
        **loop.figures(),
        **_tokens_by_corpus(objective, loop.position.batch),
    }


def objective_for(config: PretrainConfig, vocab_size: int, mixture: Mixture, heldout: Heldout, **run: Any) -> NextToken:
    """Return what the config says that a model is trained on; `run` is what `NextToken` needs to know of the run."""
    row, name = ARCHITECTURES[config.architecture], objective_of(config.objective, config.architecture)
    work = work_of(name, config.sequence_length, config.mask_share, config.span_length)
    flops = flops_per_token(
        config.size,
        vocab_size + OBJECTIVES[name].extra_ids,
        config.sequence_length,
        architecture=config.architecture,
        predicted=work.predicted,
        computed=work.computed,
    )
    experts = ExpertUse(row.experts.chosen, config.load_balance) if row.experts else None
    if name == "causal":
        return NextToken(
            mixture, heldout, flops_per_token=flops, document_mask=config.document_mask, experts=experts, **run
        )
    corruption, losses = _left_out(config, name, vocab_size, experts)
    measured = CorruptedHeldout(heldout, corruption, losses)
    return LeftOut(
        mixture, measured, losses=losses, flops_per_token=flops, experts=experts, corruption=corruption, **run
    )


def _left_out(config: PretrainConfig, name: str, vocab_size: int, experts: ExpertUse | None) -> tuple[Corruption, Loss]:
    """Return what an objective leaves out of a window, and the loss of a model that is asked for it."""
    if name == "masked":
        head = ARCHITECTURES[config.architecture].head
        hidden = MaskedTokens(config.seed, config.mask_share, mask_id=vocab_size)
        return hidden, partial(masked_cross_entropy, head=head)
    if name == "prefix_lm":
        losses = partial(prefix_cross_entropy, document_mask=config.document_mask, experts=experts)
        return Prefixes(config.seed), losses
    spans = SpanNoise(config.seed, config.mask_share, config.span_length)
    if name == "span_corruption":
        return LeftOutSpans(spans, Sentinels(vocab_size)), seq2seq_cross_entropy
    return BlankedSpans(spans, Blanks(vocab_size)), infilling_cross_entropy


def _built(config: PretrainConfig, vocab_size: int) -> Any:
    """Return a new model; its config says what it learns by, and where the ids behind the tokenizer's begin."""
    name = objective_of(config.objective, config.architecture)
    extra = OBJECTIVES[name].extra_ids
    model = build(
        config.size,
        vocab_size + extra,
        config.sequence_length,
        architecture=config.architecture,
        attention=config.attention,
        options=config.options,
    )
    if name == "masked":
        model.config.mask_token_id = vocab_size
    elif name != "causal":
        spans = {"first_id": vocab_size, "mask_share": config.mask_share, "span_length": config.span_length}
        model.config.pretraining_objective = {"name": name, **(spans if extra else {})}
    return model


def mixture_of(config: PretrainConfig, own: TokenShards, others: list[TokenShards]) -> Mixture:
    """Return the run's own corpus and the others, which come from outside the store and are verified."""
    for shards in others:
        shards.verify()
    mixture = config.mixture
    shares = [(mixture.weight, mixture.max_epochs), *((other.weight, other.max_epochs) for other in mixture.corpora)]
    return Mixture(
        [
            Corpus(Samples(shards, config.sequence_length, seed_of(config.seed, number)), *share)
            for number, (shards, share) in enumerate(zip((own, *others), shares, strict=True))
        ]
    )


def _tokens_by_corpus(objective: NextToken, steps: int) -> Metrics:
    """Return how many tokens of each corpus the steps saw; nothing where there is but one."""
    own, *others = objective.mixture.tokens(objective.first, objective.next_sample(steps))
    counts = {"own": own, **{f"corpora.{number}": tokens for number, tokens in enumerate(others)}}
    return {f"tokens.{name}": float(tokens) for name, tokens in counts.items()} if others else {}
