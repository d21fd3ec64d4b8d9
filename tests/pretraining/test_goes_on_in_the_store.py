"""Pre-training goes on from artifacts of the store: the state and the old corpora come in as inputs."""

import json
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.tokens.mixture import CorpusConfig, MixtureConfig, weighed
from tests.pretraining.conftest import write_split

TINY = PretrainConfig(
    size="tiny", sequence_length=32, global_batch=4, micro_batch=4, max_steps=5, warmup_steps=2, heldout_every=5
)


@pytest.fixture(scope="module")
def old(inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two older corpora, one of about three times the tokens of the other."""
    folder = tmp_path_factory.mktemp("old")
    for name, count in (("large", 12), ("little", 4)):
        texts = [f"The {number}th {name} river turns no stone; it carries boats. " * 3 for number in range(count)]
        write_split(folder / name, texts, inputs.tokenizer)
    return {"replay_0": folder / "large", "replay_1": folder / "little"}


def test_a_state_that_comes_in_is_that_of_init_from(inputs: Any, tmp_path: Path) -> None:
    out = {name: tmp_path / name for name in ("first", "named", "given")}
    for folder in out.values():
        folder.mkdir()
    pretrain(TINY, **inputs.named(), out=out["first"])
    pretrain(TINY.model_copy(update={"init_from": out["first"]}), **inputs.named(), out=out["named"])
    pretrain(TINY, **inputs.named(), state=out["first"] / "state", out=out["given"])
    curves = {name: (folder / "curve" / "curve.jsonl").read_text() for name, folder in out.items()}
    assert curves["given"] == curves["named"] != curves["first"]
    first, given = (json.loads(curves[name].splitlines()[0])["loss"] for name in ("first", "given"))
    assert given < first


def test_the_share_of_replay_is_realised_and_shared_out_by_tokens(
    inputs: Any, old: dict[str, Path], tmp_path: Path
) -> None:
    config = TINY.model_copy(update={"mixture": MixtureConfig(weight=6_000)})
    metrics = pretrain(config, **inputs.named(), **old, out=tmp_path)
    counted = [metrics["tokens.own"], metrics["tokens.corpora.0"], metrics["tokens.corpora.1"]]
    assert counted == [12 * 32, 6 * 32, 2 * 32], "of 20 samples eight are old, three of four from the larger corpus"


def test_old_corpora_weigh_by_their_tokens_and_as_much_as_asked_in_all(old: dict[str, Path]) -> None:
    corpora = weighed(list(old.values()), 4_000)
    assert sum(corpus.weight for corpus in corpora) == 4_000
    tokens = [json.loads((folder / "index.json").read_text())["tokens"] for folder in old.values()]
    assert corpora[0].weight / corpora[1].weight == pytest.approx(tokens[0] / tokens[1], rel=1e-3)
    assert [corpus.weight for corpus in weighed(list(old.values()), 2)] == [1, 1]
    with pytest.raises(UserError, match=r"2 old corpora in a share of 0\.0001"):
        weighed(list(old.values()), 1)


def test_replay_beside_a_mixture_of_ones_own_is_refused(inputs: Any, old: dict[str, Path], tmp_path: Path) -> None:
    own = TINY.model_copy(update={"mixture": MixtureConfig(corpora=(CorpusConfig(shards=inputs.train),))})
    with pytest.raises(UserError, match="old corpora are replayed by themselves; leave it empty"):
        pretrain(own, **inputs.named(), **old, out=tmp_path)


def test_an_old_corpus_without_an_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="has no index of tokens"):
        weighed([tmp_path], 10)
