"""Every architecture learns 64 documents by heart, and ends in the same bytes when it was killed on the way."""

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store
from pipelines.models.architectures import ARCHITECTURES
from pipelines.models.options import ModelOptions
from pipelines.pretraining.mesh import ParallelConfig
from pipelines.pretraining.optimizer_settings import WeightRatesConfig
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.products import post_train
from pipelines.products import pretrain as pretrain_product
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tests.pretraining.conftest import Inputs, write_split, write_tokenizer

ROOT = Path(__file__).resolve().parents[2]
Kill = Callable[[PretrainConfig, Path, int], None]
SETTINGS: dict[str, dict[str, Any]] = {
    **{name: {"architecture": name} for name in ARCHITECTURES},
    # One span a window, whose length is always the same: it cannot be told from the texts, whose words repeat a letter.
    "glm": {"architecture": "glm", "span_length": 5.0},
    # Vectors of T5's vocabulary begin 50 times as long as others, so a rate that does for those is slow; and the
    # products of its queries and keys are not scaled down, so its matrices learn at less than others' rate.
    "t5": {
        "architecture": "t5",
        "span_length": 5.0,
        "lr": 3e-3,
        "rates": WeightRatesConfig(embedding=0.1, vectors=0.05),
    },
    "prefix_lm": {"architecture": "llama", "objective": "prefix_lm"},
}
WAYS = list(SETTINGS)


def config(way: str, **changes: object) -> PretrainConfig:
    return PretrainConfig(
        size="tiny",
        sequence_length=32,
        global_batch=16,
        micro_batch=16,
        warmup_steps=10,
        optimizer="muon",
        heldout_every=100,
        checkpoint_every=100,
        heldout_sequences=8,
        trackers=(),
        **{"lr": 1e-2, **SETTINGS[way]},
    ).model_copy(update=changes)


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Inputs:
    """64 documents, which are held out as well: what is asked is to know them."""
    folder = tmp_path_factory.mktemp("documents")
    write_tokenizer(folder / "tokenizer")
    texts = [f"{one * 5} {other * 5}." for one in "mstrwgfb" for other in "mstrwgfb"]
    write_split(folder / "train", texts, folder / "tokenizer")
    write_split(folder / "heldout", texts, folder / "tokenizer")
    return Inputs(folder / "train", folder / "heldout", folder / "tokenizer")


@pytest.fixture(scope="module")
def kill(documents: Inputs) -> Iterator[Kill]:
    """Trains in another process, which SIGKILL ends before it takes the step."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.pretraining.killed"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )

    def train(config: PretrainConfig, out: Path, step: int) -> None:
        assert process.stdin and process.stdout
        job = {"config": config.model_dump_json(), "out": str(out), "step": str(step)}
        named = {name: str(path) for name, path in documents.named().items()}
        process.stdin.write(json.dumps(job | named) + "\n")
        process.stdin.flush()
        assert process.stdout.readline() == "9\n"

    yield train
    assert process.stdin and process.stdout
    process.stdin.close()
    process.wait(timeout=30)
    process.stdout.close()


def published(out: Path) -> dict[str, str]:
    return {
        str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest()
        for name in ("model", "state", "curve")
        for path in sorted((out / name).rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("way", WAYS)
def test_64_documents_are_learnt_by_heart(way: str, documents: Inputs, one_thread: None, tmp_path: Path) -> None:
    kind = ARCHITECTURES[SETTINGS[way]["architecture"]].kind
    steps = 75 if kind == "causal" else 150  # others predict a seventh of the tokens
    metrics = pretrain(config(way, max_steps=steps), **documents.named(), out=tmp_path)
    assert metrics["heldout_loss"] < 0.6, "a byte takes 5.6 nats at first, and what the text itself leaves open is .32"


@pytest.mark.parametrize("way", WAYS)
def test_a_run_killed_on_the_way_ends_in_the_same_bytes(
    way: str, documents: Inputs, kill: Kill, tmp_path: Path
) -> None:
    short = config(way, max_steps=5, checkpoint_every=2)
    pretrain(short, **documents.named(), out=tmp_path / "calm")
    kill(short, tmp_path / "killed", 3)
    assert not (tmp_path / "killed" / "model").exists()
    pretrain(short, **documents.named(), out=tmp_path / "killed")
    assert published(tmp_path / "killed") == published(tmp_path / "calm")


WRONG = [
    ("llama", {"objective": "masked"}, r"'masked' needs a masked model and 'llama' is causal; .* bert, modernbert"),
    ("bert", {"objective": "causal"}, r"'causal' needs a causal model and 'bert' is masked; .* to one of llama, qwen3"),
    ("llama", {"objective": "span_corruption"}, r"'span_corruption' needs a seq2seq model and 'llama' .* one of t5$"),
    ("glm", {"objective": "causal"}, r"'causal' needs a causal model and 'glm' is blank-filling; .* one of llama, qw"),
    ("gpt2", {"objective": "blank_infilling"}, r"'blank_infilling' needs a blank-filling model .* one of glm$"),
    ("bert", {"objective": "prefix_lm"}, r"'prefix_lm' needs a causal model and 'bert' is masked"),
    ("llama", {"objective": "prefix_lm", "attention": "blockwise"}, r"attention: 'blockwise' sees only what stands"),
    ("llama", {"objective": "prefix_lm", "optimizer": "sophia"}, r"'sophia' draws next tokens .* is 'prefix_lm'"),
    (
        "llama",
        {"objective": "prefix_lm", "parallel": ParallelConfig(processes=2, tensor_parallel_degree=2)},
        r"parallel: tensor_parallel_degree and .* are for the objective 'causal' and this is 'prefix_lm'; set both",
    ),
    ("t5", {"objective": "causal"}, r"'causal' needs a causal model and 't5' is seq2seq; .* to one of llama, qwen3"),
    (
        "t5",
        {"sequence_length": 4096},
        r"sequence_length: 4,096 tokens lack 123 spans and there are 100 sentinels; shorten it to 3,330 or",
    ),
    ("t5", {"attention_dropout": 0.1}, r"attention_dropout: 0\.1 has no effect in 't5'; set it to 0"),
    ("bert", {"document_mask": True}, r"document_mask: true is for the objectives .* and this is 'masked'"),
    ("modernbert", {"attention": "blockwise"}, r"attention: 'blockwise' sees only what stands before a token"),
    ("bert", {"optimizer": "sophia"}, r"'sophia' draws next tokens from the model and the objective is 'masked'"),
    (
        "llama",
        {"options": ModelOptions(tied=False), "parallel": ParallelConfig(processes=2, pipeline_parallel_degree=2)},
        r"options: they are not made for blocks that parallel's tensor_parallel_degree or pipeline_parallel_degree",
    ),
    ("gpt2", {"attention_dropout": 0.1}, r"attention_dropout: 0\.1 has no effect in 'gpt2'; set it to 0"),
    ("gpt2", {"dtype": "fp8"}, r"dtype: 'fp8' is for matrices without biases"),
]


@pytest.mark.parametrize(("way", "changes", "said"), WRONG)
def test_what_an_architecture_cannot_do_is_said_when_a_run_is_planned(
    way: str, changes: dict[str, object], said: str, tmp_path: Path
) -> None:
    wrong = smoke().model_copy(update={"pretrain": config(way, **changes)})
    with pytest.raises(UserError, match=said):
        pretrain_product(wrong, Planner(Store(tmp_path)))


def test_each_architecture_has_a_key_of_its_own() -> None:
    assert len({json.dumps(config(way).identity()) for way in WAYS}) == len(WAYS)


def test_a_prefix_model_goes_no_further_than_its_scores(tmp_path: Path) -> None:
    other = with_settings(smoke(), {"pretrain.objective": "prefix_lm"})
    pretrain_product(other, Planner(Store(tmp_path)))
    with pytest.raises(UserError, match=r"'prefix_lm' is trained and scored and goes no further; .* to 'causal' to"):
        post_train(other, Planner(Store(tmp_path)))


def test_an_unknown_architecture_is_one_line_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"pretrain\.architecture: 'gtp2': .*did you mean 'gpt2'\?"):
        with_settings(smoke(), {"pretrain.architecture": "gtp2"})


def test_an_unknown_objective_is_one_line_with_the_nearest_name() -> None:
    with pytest.raises(UserError, match=r"pretrain\.objective: 'maskd': .*did you mean 'masked'\?"):
        with_settings(smoke(), {"pretrain.objective": "maskd"})


def test_what_an_architecture_cannot_go_on_to_is_said_when_a_run_is_planned(tmp_path: Path) -> None:
    other = with_settings(smoke(), {"pretrain.architecture": "qwen3"})
    pretrain_product(other, Planner(Store(tmp_path)))
    with pytest.raises(UserError, match=r"'qwen3' is trained and scored and goes no further; take the flow 'pretrain'"):
        post_train(other, Planner(Store(tmp_path)))
