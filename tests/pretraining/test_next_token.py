import json
import shutil
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.key import identity_of
from pipelines.artifacts.store import Store
from pipelines.models.build import build
from pipelines.pretraining.causal_lm import NextToken, mixture_of
from pipelines.pretraining.losses import causal_cross_entropy
from pipelines.pretraining.pretrain import PRETRAIN, PretrainConfig, pretrain
from pipelines.recipes import load_recipe, smoke
from pipelines.settings import parse_setting, with_settings
from pipelines.tokens.loader import TokenShards
from pipelines.tokens.mixture import CorpusConfig, MixtureConfig
from pipelines.tokens.positions import BOS_ID, document_positions
from tests.pretraining.conftest import write_split

TINY = PretrainConfig(
    size="tiny", sequence_length=32, global_batch=4, micro_batch=4, max_steps=6, warmup_steps=2, heldout_every=6
)


@pytest.fixture(scope="module")
def other(inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A corpus of other text made with the same tokenizer."""
    folder = tmp_path_factory.mktemp("corpora") / "other"
    texts = [f"The {number}th river turns no stone; it carries boats. " * 3 for number in range(8)]
    write_split(folder, texts, inputs.tokenizer)
    return folder


def mixed(other: Path, max_epochs: float | None = None, own_epochs: float | None = None) -> PretrainConfig:
    corpus = CorpusConfig(shards=other, weight=1, max_epochs=max_epochs)
    mixture = MixtureConfig(weight=3, max_epochs=own_epochs, corpora=(corpus,))
    return TINY.model_copy(update={"mixture": mixture})


def objective(config: PretrainConfig, inputs: Any) -> NextToken:
    others = [TokenShards(corpus.shards) for corpus in config.mixture.corpora]
    mixture = mixture_of(config, TokenShards(inputs.train), others)
    return NextToken(
        mixture,
        None,
        first=0,
        global_batch=config.global_batch,
        fingerprint={},
        flops_per_token=1,
        document_mask=config.document_mask,
    )


def test_a_mixture_is_trained_on_and_counted_by_corpus(inputs: Any, other: Path, tmp_path: Path) -> None:
    metrics = pretrain(mixed(other), **inputs.named(), out=tmp_path)
    assert metrics["tokens.own"] + metrics["tokens.corpora.0"] == metrics["tokens"]
    assert metrics["tokens.corpora.0"] == 6 * 32, "one sample in four of 24"


def test_each_rank_reads_its_own_rows_of_the_same_batch(inputs: Any, other: Path) -> None:
    whole = objective(mixed(other), inputs)
    for step in range(9):
        for world in (1, 2, 4):
            share = 4 // world
            parts = [objective(mixed(other), inputs).rows(step, r * share, r * share + share) for r in range(world)]
            assert torch.equal(whole.batch(step)[0], torch.cat([part[0] for part in parts]))
            assert torch.equal(whole.batch(step)[1], torch.cat([part[1] for part in parts]))


def test_the_batches_after_a_restart_are_those_of_the_run_without_one(inputs: Any, other: Path) -> None:
    config = mixed(other, max_epochs=1.5)
    whole = objective(config, inputs)
    seen = [whole.batch(step)[0] for step in range(40)]
    again = objective(config, inputs)
    assert all(torch.equal(again.batch(step)[0], seen[step]) for step in range(17, 40))
    assert torch.equal(again.batch(3)[0], seen[3]), "back to an earlier step"


def test_a_mixed_run_that_fails_in_its_midst_ends_as_if_it_had_not(
    inputs: Any, other: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = mixed(other, max_epochs=0.5).model_copy(update={"checkpoint_every": 2, "document_mask": True})
    calm = pretrain(config, **inputs.named(), out=tmp_path / "calm")
    whole = NextToken.batch

    def failing(self: NextToken, step: int) -> tuple[Tensor, Tensor]:
        if step == 5:
            raise OSError("the disk is gone")
        return whole(self, step)

    with monkeypatch.context() as patched, pytest.raises(OSError, match="the disk is gone"):
        patched.setattr(NextToken, "batch", failing)
        pretrain(config, **inputs.named(), out=tmp_path / "disturbed")
    assert pretrain(config, **inputs.named(), out=tmp_path / "disturbed") == calm
    weights = [(tmp_path / run / "model" / "model.safetensors").read_bytes() for run in ("calm", "disturbed")]
    assert weights[0] == weights[1]


def test_an_exhausted_mixture_says_what_there_is_and_what_is_asked(inputs: Any, other: Path, tmp_path: Path) -> None:
    held = TokenShards(inputs.train).tokens + TokenShards(other).tokens
    config = mixed(other, max_epochs=1, own_epochs=1).model_copy(update={"max_steps": 1_000})
    with pytest.raises(UserError, match=rf"have {held:,} tokens in .* asks for 128,000 in 4,000; take at most"):
        pretrain(config, **inputs.named(), out=tmp_path)


def test_a_corpus_of_another_tokenizer_is_refused_by_name(inputs: Any, other: Path, tmp_path: Path) -> None:
    foreign = tmp_path / "foreign"
    shutil.copytree(other, foreign)
    index = json.loads((foreign / "index.json").read_text())
    (foreign / "index.json").write_text(json.dumps({**index, "tokenizer_digest": "0" * 64}))
    with pytest.raises(UserError, match=r"foreign was made with tokenizer 000000000000"):
        pretrain(mixed(foreign), **inputs.named(), out=tmp_path / "out")


def test_a_damaged_corpus_is_refused_by_name(inputs: Any, other: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged"
    shutil.copytree(other, damaged)
    data = bytearray((damaged / "shard-00000.bin").read_bytes())
    data[100] ^= 1
    (damaged / "shard-00000.bin").write_bytes(data)
    with pytest.raises(UserError, match=r"damaged/shard-00000\.bin has checksum"):
        pretrain(mixed(damaged), **inputs.named(), out=tmp_path / "out")


def test_too_small_a_part_of_an_epoch_is_named(inputs: Any, other: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"max_epochs 0\.001 of the \d+ samples of .* is none; raise it"):
        pretrain(mixed(other, max_epochs=0.001), **inputs.named(), out=tmp_path)


def test_the_content_of_a_corpus_enters_the_key_and_its_path_does_not(other: Path, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")

    def identity(folder: Path, weight: float = 1.0) -> object:
        corpus = CorpusConfig(shards=folder, weight=weight)
        config = TINY.model_copy(update={"mixture": MixtureConfig(corpora=(corpus,))})
        return identity_of(PRETRAIN, config, {}, store.pins)

    moved = tmp_path / "moved"
    shutil.copytree(other, moved)
    assert identity(moved) == identity(other)
    assert identity(moved, weight=2.0) != identity(other)
    index = json.loads((moved / "index.json").read_text())
    (moved / "index.json").write_text(json.dumps({**index, "bytes": 1}))
    assert identity(moved) != identity(other)


def test_a_folder_without_shards_is_named_when_a_run_is_planned(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"mixture\.corpora: .* has no index\.json; name the split of a shard stage"):
        mixed(tmp_path).roots()


def test_a_mixture_is_asked_for_on_the_command_line_and_in_a_recipe(other: Path, tmp_path: Path) -> None:
    path, value = parse_setting(f"pretrain.mixture={{weight: 3, corpora: [{{shards: {other}, max_epochs: 2.5}}]}}")
    given = with_settings(smoke(), {path: value}).pretrain
    (tmp_path / "mix.yaml").write_text(
        f"from: smoke\npretrain:\n  mixture:\n    weight: 3\n    corpora:\n"
        f"      - shards: {other}\n        max_epochs: 2.5\n"
    )
    assert load_recipe(str(tmp_path / "mix.yaml")).pretrain == given
    assert given.mixture == MixtureConfig(weight=3, corpora=(CorpusConfig(shards=other, max_epochs=2.5),))
    assert set(given.roots()) == {"mixture.corpora.0"}


def test_the_documents_of_a_step_are_those_whose_tokens_it_holds(inputs: Any, other: Path) -> None:
    asked = objective(mixed(other), inputs)
    for step in range(5):
        named = asked.document_ids(step)
        expected = {
            f"{folder.name}-{document}"
            for folder, places in asked.mixture.places(step * 4, 4).items()
            for start, end in places
            for document, (first, last) in enumerate(documents(folder))
            if first < end and start < last
        }
        assert sorted(named) == sorted(expected)


def documents(folder: Path) -> list[tuple[int, int]]:
    shards = TokenShards(folder)
    ids = shards.window(0, shards.tokens).tolist()
    starts = [place for place, number in enumerate(ids) if number == BOS_ID]
    return list(zip(starts, [*starts[1:], len(ids)], strict=True))


def test_a_machine_that_cannot_read_document_ids_names_the_places(
    inputs: Any, other: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipelines.pretraining.causal_lm.find_spec", lambda name: None)
    named = objective(mixed(other), inputs).document_ids(0)
    assert len(named) == 4 and all(name.endswith("]") and ":" in name for name in named)


@pytest.mark.parametrize("attention", ["sdpa", "blockwise"])
def test_with_a_document_mask_each_document_has_the_loss_it_has_alone(attention: Literal["sdpa", "blockwise"]) -> None:
    torch.manual_seed(0)
    model = build("tiny", 64, 64, attention=attention).eval()
    texts = [torch.randint(6, 64, (length,)) for length in (9, 1, 0, 21, 14)]
    rows = [torch.cat([torch.tensor([BOS_ID]), text]) for text in texts]
    packed = torch.cat(rows)
    targets = torch.cat([packed[1:], torch.tensor([BOS_ID])])

    def losses(inputs: Tensor, expected: Tensor, positions: Tensor | None) -> Tensor:
        hidden = model.model(input_ids=inputs[None], position_ids=positions, use_cache=False).last_hidden_state
        logits = model.lm_head(hidden)[0].float()
        return torch.nn.functional.cross_entropy(logits, expected, reduction="none")

    with torch.no_grad():
        together = losses(packed, targets, document_positions(packed[None]))
        bos = torch.tensor([BOS_ID])
        alone = torch.cat([losses(row, torch.cat([row[1:], bos]), None) for row in rows])
        unmasked = losses(packed, targets, None)
        summed = causal_cross_entropy(model, packed[None], targets[None], document_positions(packed[None]))
    assert torch.allclose(together, alone, atol=1e-5)
    assert float(summed) == pytest.approx(float(alone.sum()), rel=1e-5)
    assert not torch.allclose(unmasked, alone, atol=1e-3), "without the mask documents see each other"


def test_a_document_mask_is_trained_and_measured_with(inputs: Any, tmp_path: Path) -> None:
    own = pretrain(TINY.model_copy(update={"document_mask": True}), **inputs.named(), out=tmp_path / "masked")
    plain = pretrain(TINY, **inputs.named(), out=tmp_path / "plain")
    assert own["heldout_loss"] != plain["heldout_loss"]
    assert own["tokens"] == plain["tokens"]
