"""Every optimizer and schedule: overfits 64 documents, resumes in the same bits, works in two processes or says no."""

import signal
from pathlib import Path
from typing import Any, ClassVar, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AutoModelForCausalLM

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.curvature import drawn_targets
from pipelines.pretraining.loop import Batch, Loop
from pipelines.pretraining.losses import IGNORED, causal_cross_entropy
from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.optimizer import WHOLE_ONLY, build_optimizers, check_optimizer, optimizer_tensors, set_lr
from pipelines.pretraining.optimizer_settings import OptimizerName, ScheduleName
from pipelines.pretraining.pretrain import pretrain
from pipelines.pretraining.settings import LoopConfig
from pipelines.pretraining.sophia import Sophia
from pipelines.recipes import THRIFTY
from pipelines.settings import with_settings
from tests.pretraining.noise import VOCABULARY, Noise, loop, tiny, weights
from tests.pretraining.together import CONFIG, COPIES, SHARDS, Mesh, Ranks, curve, published

OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
SCHEDULES: tuple[ScheduleName, ...] = get_args(ScheduleName)
PAIRS = list(zip(OPTIMIZERS, SCHEDULES, strict=True))
"""Each optimizer and each schedule once: neither knows of the other."""
RATES = {"adamw": 0.01, "muon": 0.03, "lion": 0.003, "adafactor": 0.3, "adamw8bit": 0.01, "sophia": 0.01}


class Documents:
    """64 documents of random tokens, all in every batch."""

    stage = "documents"
    fingerprint: ClassVar = {"config": {}, "inputs": {}, "code": "one"}
    ids = torch.randint(6, VOCABULARY, (64, 17), generator=torch.Generator().manual_seed(0))

    def batch(self, step: int) -> Batch:
        return self.ids[:, :-1], self.ids[:, 1:]

    def loss(self, model: Any, inputs: Tensor, targets: Tensor) -> Tensor:
        return causal_cross_entropy(model, inputs, targets)

    def drawn(self, model: Any, inputs: Tensor, targets: Tensor, uniform: Tensor) -> Tensor:
        return drawn_targets(model, inputs, targets, uniform)

    def measure(self, model: Any) -> dict[str, float]:
        return {}


def overfitted(out: Path, **changes: Any) -> tuple[float, float]:
    """Return the loss of the first and of the last of 150 steps on the same 64 documents."""
    settings = {"max_steps": 150, "global_batch": 64, "micro_batch": 64, "checkpoint_every": 1000}
    made = loop(Documents(), out, **settings, warmup_steps=10, log_interval=1000, **changes)
    made.run()
    losses = [row["loss"] for row in made.position.curve]
    return losses[0], losses[-1]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_each_optimizer_overfits_64_documents(name: OptimizerName, one_thread: None, tmp_path: Path) -> None:
    first, last = overfitted(tmp_path, optimizer=name, lr=RATES[name], weight_decay=0.0)
    assert first > 4 and last < 1.5


@pytest.mark.parametrize("name", SCHEDULES)
def test_each_schedule_overfits_64_documents(name: ScheduleName, one_thread: None, tmp_path: Path) -> None:
    first, last = overfitted(tmp_path, schedule=name, lr=0.01, weight_decay=0.0)
    assert first > 4 and last < 1.5


def short(optimizer: str, schedule: str = "wsd") -> dict[str, Any]:
    """Settings of a run of some steps; Sophia estimates the curvature in the last one before the kill and after it."""
    sizes = {
        "size": "tiny",
        "max_steps": 8,
        "checkpoint_every": 3,
        "heldout_every": 4,
        "publish": "swa",
        "swa": {"start": 0.5},
    }
    return {**sizes, "optimizer": optimizer, "schedule": schedule, "lr": RATES[optimizer] / 3, "sophia": {"every": 3}}


@pytest.mark.parametrize(("optimizer", "schedule"), PAIRS)
def test_each_optimizer_and_schedule_killed_ends_in_the_same_bits(
    optimizer: str, schedule: str, ranks: Ranks, tmp_path: Path
) -> None:
    settings = short(optimizer, schedule)
    assert ranks.train(tmp_path / "calm", config=settings) == [0]
    assert ranks.train(tmp_path / "killed", config=settings, kill_at=5) == [signal.SIGKILL]
    assert ranks.train(tmp_path / "killed", config=settings) == [0]
    assert published(tmp_path / "killed") == published(tmp_path / "calm")


@pytest.mark.parametrize("mesh", [COPIES, SHARDS], ids=["copies", "shards"])
@pytest.mark.parametrize("optimizer", [name for name in OPTIMIZERS if name != "adamw"])
def test_each_optimizer_trains_in_two_processes_what_one_trains(
    optimizer: OptimizerName, mesh: Mesh, ranks: Ranks, tmp_path: Path
) -> None:
    if mesh == SHARDS and optimizer in WHOLE_ONLY:
        pytest.skip("needs whole weights, and is refused before anything starts: see below")
    settings = {**short(optimizer), "max_steps": 4}
    assert ranks.train(tmp_path / "one", config=settings) == [0]
    assert ranks.train(tmp_path / "two", mesh, config=settings) == [0, 0]
    for row, expected in zip(curve(tmp_path / "two"), curve(tmp_path / "one"), strict=True):
        # Lion's sign turns a rounding of the least gradients into a whole step.
        assert row == pytest.approx(expected, rel=1e-3 if optimizer == "lion" else 2e-5, abs=1e-5)


@pytest.mark.parametrize("optimizer", WHOLE_ONLY)
def test_an_optimizer_of_whole_weights_is_refused_on_shares(optimizer: str, inputs: Any, tmp_path: Path) -> None:
    parallel = ParallelConfig(processes=2)
    config = CONFIG.model_copy(update={"parallel": parallel, "optimizer": optimizer})
    with pytest.raises(
        UserError, match=f"optimizer: '{optimizer}' needs whole weights.*parallel.data_parallel_replicate_degree"
    ):
        pretrain(config, **inputs.named(), out=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_optimizer_without_its_library_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipelines.pretraining.optimizer.find_spec", lambda name: None)
    with pytest.raises(UserError, match="'lion' needs the package lion-pytorch; pip install"):
        check_optimizer(LoopConfig(optimizer="lion"), cut=False)


def test_sophia_is_refused_where_no_targets_can_be_drawn(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'sophia' draws next tokens"):
        loop(Noise(), tmp_path, optimizer="sophia")


@pytest.mark.parametrize(
    ("field", "value", "meant"), [("optimizer", "adamW8bit", "adamw8bit"), ("schedule", "cosin", "cosine")]
)
def test_an_unknown_name_is_answered_with_the_nearest(field: str, value: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean '{meant}'"):
        with_settings(CONFIG, {field: value})


def test_eight_bit_state_is_bytes_blocks_and_maps_by_name() -> None:
    model = nn.ModuleDict({"wide": nn.Linear(96, 96, bias=False)})
    (optimizer,) = build_optimizers(model, LoopConfig(optimizer="adamw8bit"))
    model["wide"].weight.grad = torch.randn(96, 96, generator=torch.Generator().manual_seed(0))
    optimizer.step()
    tensors = optimizer_tensors(model, [optimizer])
    kinds = {name.partition(":")[2]: tensor.dtype for name, tensor in tensors.items()}
    floats = dict.fromkeys(("absmax1", "absmax2", "qmap1", "qmap2"), torch.float32)
    assert kinds == {"state1": torch.uint8, "state2": torch.uint8, "step": torch.int64, **floats}


def test_kinds_of_weights_have_rates_and_decay_of_their_own() -> None:
    rates = {"embedding": 0.2, "vectors": 0.01}
    config = LoopConfig.model_validate({"lr": 0.1, "rates": rates, "decayed": ("matrices",), "weight_decay": 0.3})
    model = tiny()
    (optimizer,) = build_optimizers(model, config)
    set_lr([optimizer], 0.05)
    found = {id(weight): group for group in optimizer.param_groups for weight in group["params"]}
    embedding, gain = model.model.embed_tokens.weight, model.model.norm.weight
    matrix = model.model.layers[0].mlp.up_proj.weight
    assert [found[id(one)]["lr"] for one in (matrix, embedding, gain)] == pytest.approx([0.05, 0.1, 0.005])
    assert [found[id(one)]["weight_decay"] for one in (matrix, embedding, gain)] == [0.3, 0.0, 0.0]


def test_sophia_takes_the_papers_steps() -> None:
    """Algorithm 3 of Liu et al. (2023), written out for one weight."""
    weight = nn.Parameter(torch.tensor([2.0, -1.0, 0.5]))
    sophia = Sophia([weight], lr=0.1, betas=(0.9, 0.8), gamma=0.5)
    sophia.param_groups[0]["weight_decay"] = 0.2
    theta, mean, curvature = [2.0, -1.0, 0.5], [0.0] * 3, [0.0] * 3
    for step in range(5):
        gradient, drawn = [0.3, -0.02, 0.001 * step], [0.4, 0.3, 0.0]
        if step % 2 == 0:
            weight.grad = torch.tensor(drawn)
            sophia.update_curvature(4.0)
            curvature = [0.8 * h + 0.2 * 4.0 * g * g for h, g in zip(curvature, drawn, strict=True)]
        weight.grad = torch.tensor(gradient)
        sophia.step()
        mean = [0.9 * m + 0.1 * g for m, g in zip(mean, gradient, strict=True)]
        ratios = [m / max(0.5 * h, 1e-12) for m, h in zip(mean, curvature, strict=True)]
        theta = [w - 0.1 * 0.2 * w - 0.1 * max(-1.0, min(1.0, ratio)) for w, ratio in zip(theta, ratios, strict=True)]
        assert weight.tolist() == pytest.approx(theta, rel=1e-5)


def test_the_estimate_of_the_curvature_is_that_of_gauss_and_newton() -> None:
    """For a softmax over logits `W x` the diagonal of the Gauss-Newton matrix is `p (1 - p) x ** 2`, summed."""
    generator = torch.Generator().manual_seed(0)
    inputs, weight = torch.randn(8, 3, generator=generator), torch.randn(5, 3, generator=generator)
    chances = (inputs @ weight.T).softmax(-1)
    exact = torch.einsum("bv,bd->vd", chances * (1 - chances), inputs.square()) / len(inputs)
    parameter = nn.Parameter(weight)
    sophia = Sophia([parameter], betas=(0.9, 0.0), gamma=1.0)
    total, rounds = torch.zeros_like(exact), 4000
    for _ in range(rounds):
        labels = torch.multinomial(chances, 1, generator=generator).squeeze(1)
        parameter.grad = None
        F.cross_entropy(inputs @ parameter.T, labels).backward()
        sophia.update_curvature(len(inputs))
        total += sophia.state[parameter]["curvature"]
    assert torch.allclose(total / rounds, exact, rtol=0.1, atol=0.01)


def test_labels_are_drawn_as_often_as_the_model_gives_them_and_ignored_ones_stay() -> None:
    torch.manual_seed(0)
    model = tiny()
    inputs = torch.full((2000, 2), 7)
    targets = torch.full((2000, 2), 9)
    targets[:, 0] = IGNORED
    uniform = torch.rand((2000, 2), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        model.lm_head.weight.mul_(20)
        drawn = drawn_targets(model, inputs, targets, uniform)
        expected = model(input_ids=inputs[:1]).logits[0, 1].softmax(-1)
    assert bool((drawn[:, 0] == IGNORED).all())
    shares = torch.bincount(drawn[:, 1], minlength=VOCABULARY) / 2000
    assert torch.allclose(shares, expected, atol=0.04)


def test_the_estimate_leaves_the_gradients_and_a_plain_optimizer_alone(tmp_path: Path) -> None:
    made: Loop = loop(Documents(), tmp_path, optimizer="sophia", max_steps=1, global_batch=64)
    inputs, targets = Documents().batch(0)
    made.step.gradients(inputs, targets, lambda: False)
    before = [weight.grad.clone() for weight in made.model.parameters() if weight.grad is not None]
    start = weights(made)
    made.curvature.update(1, inputs, targets)
    assert all(torch.equal(one, other.grad) for one, other in zip(before, made.model.parameters(), strict=True))
    assert all(torch.equal(one, other) for one, other in zip(start, weights(made), strict=True))
    assert isinstance(made.optimizers[0], Sophia)
    assert all(bool((state["curvature"] > 0).any()) for state in made.optimizers[0].state.values())


def test_the_thrifty_recipe_publishes_what_plain_transformers_reads(inputs: Any, tmp_path: Path) -> None:
    short_run = {"max_steps": 3, "heldout_every": 3, "publish": "last", "trackers": ()}
    metrics = pretrain(with_settings(CONFIG, {**THRIFTY, **short_run}), **inputs.named(), out=tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path / "model", trust_remote_code=False)
    assert not read.config.tie_word_embeddings
    assert metrics["parameters"] == sum(weight.numel() for weight in read.parameters())
