import ast
import json
import os
import shutil
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import PinCache
from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store
from pipelines.artifacts.work import Progress, read_progress
from pipelines.finetuning.contract import check
from pipelines.models.counting import count_parameters
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.products import full
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from pipelines.tokens.loader import Samples, TokenShards

TINY = PretrainConfig(
    size="tiny",
    sequence_length=32,
    global_batch=4,
    micro_batch=4,
    max_steps=8,
    warmup_steps=2,
    heldout_every=4,
    heldout_sequences=4,
    checkpoint_every=2,
)


def curve(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / "curve" / "curve.jsonl").read_text().splitlines()]


def published(out: Path) -> dict[str, str]:
    """The digests of all that counts."""
    return {
        str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest()
        for name in ("model", "state", "curve")
        for path in sorted((out / name).rglob("*"))
    }


@pytest.fixture(scope="module")
def finished(inputs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished")
    pretrain(TINY, **inputs.named(), out=out)
    return out


def test_a_small_text_is_learnt_by_heart(inputs: Any, tmp_path: Path) -> None:
    config = TINY.model_copy(
        update={"max_steps": 75, "lr": 2e-2, "optimizer": "muon", "heldout_every": 25, "checkpoint_every": 75}
    )
    metrics = pretrain(config, **inputs.named(), out=tmp_path)
    rows = curve(tmp_path)
    assert rows[0]["loss"] > 5 > 1 > rows[-1]["loss"]
    measured = [row["heldout_loss"] for row in rows if "heldout_loss" in row]
    assert len(measured) == 3 and measured == sorted(measured, reverse=True)
    assert metrics["heldout_loss"] == measured[-1]
    assert metrics["tokens"] == Samples(TokenShards(inputs.train), 32, 0).tokens_before(75 * 4)
    assert metrics["steps"] == 75 and metrics["skipped_steps"] == 0


@pytest.mark.parametrize("changed", [{"optimizer": "muon"}, {"dtype": "bf16"}, {"attention": "blockwise"}])
def test_the_loss_falls_with_every_way_to_train(changed: dict[str, str], inputs: Any, tmp_path: Path) -> None:
    config = PretrainConfig(**{**TINY.model_dump(), "lr": 5e-3, **changed})
    pretrain(config, **inputs.named(), out=tmp_path)
    rows = curve(tmp_path)
    assert rows[-1]["loss"] < rows[0]["loss"] - 0.5


def test_the_curve_has_a_row_a_step_without_any_time(finished: Path) -> None:
    rows = curve(finished)
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert [row["step"] for row in rows if "heldout_loss" in row] == [4, 8]
    assert set(rows[0]) == {"step", "loss", "lr", "grad_norm", "tokens"}
    figures = {f"heldout_{name}" for name in ("loss", "perplexity", "bits_per_byte", "accuracy")}
    assert set(rows[3]) - set(rows[0]) == figures


def test_the_model_loads_in_transformers_and_keeps_its_contract(finished: Path) -> None:
    contract = check(finished / "model")
    assert contract.template is None and contract.max_length == 32
    model = AutoModelForCausalLM.from_pretrained(finished / "model", local_files_only=True)
    weights = load_file(finished / "state" / "model.safetensors")
    assert all(torch.equal(weights[name], weight) for name, weight in model.named_parameters())
    assert sum(weight.numel() for weight in model.parameters()) == count_parameters("tiny", 262)
    assert model.generation_config.pad_token_id not in model.generation_config.eos_token_id
    assert model.config._attn_implementation == "sdpa"


def test_bits_per_byte_count_the_bytes_behind_the_targets(inputs: Any, finished: Path) -> None:
    from pipelines.pretraining.heldout import token_sizes

    sizes = token_sizes(inputs.tokenizer)
    assert sizes[:6].tolist() == [0] * 6 and sizes[6:].tolist() == [1] * 256
    last = curve(finished)[-1]
    assert last["heldout_bits_per_byte"] == pytest.approx(last["heldout_loss"] / 0.6931, rel=0.02)


def test_the_size_of_a_micro_batch_changes_the_result_by_rounding_only(
    inputs: Any, finished: Path, tmp_path: Path
) -> None:
    pretrain(TINY.model_copy(update={"micro_batch": 1}), **inputs.named(), out=tmp_path)
    for one, other in zip(curve(finished), curve(tmp_path), strict=True):
        assert one == pytest.approx(other, rel=1e-3)


def test_heldout_perplexity_and_accuracy_are_those_of_the_whole_logits(inputs: Any, finished: Path) -> None:
    from pipelines.pretraining.heldout import Heldout
    from pipelines.tokens.loader import TokenShards

    held = Heldout(TokenShards(inputs.heldout), inputs.tokenizer, 32, count=4, rows=4)
    model = AutoModelForCausalLM.from_pretrained(finished / "model", local_files_only=True)
    with torch.no_grad():
        logits = model(held.ids_BS[:, :-1]).logits.flatten(0, 1)
    targets = held.ids_BS[:, 1:].flatten()
    last = curve(finished)[-1]
    exact = torch.nn.functional.cross_entropy(logits, targets)
    assert last["heldout_perplexity"] == pytest.approx(float(exact.exp()), rel=1e-4)
    assert last["heldout_accuracy"] == pytest.approx(float((logits.argmax(-1) == targets).float().mean()))


def test_activation_checkpointing_publishes_the_same_bytes(inputs: Any, finished: Path, tmp_path: Path) -> None:
    pretrain(TINY.model_copy(update={"activation_checkpointing": True}), **inputs.named(), out=tmp_path)
    assert published(tmp_path) == published(finished)


def test_the_average_is_published_and_a_later_run_goes_on_with_it(inputs: Any, tmp_path: Path) -> None:
    config = TINY.model_copy(update={"publish": "average", "ema_decay": 0.9})
    pretrain(config, **inputs.named(), out=tmp_path / "first")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "first" / "model", local_files_only=True)
    held = load_file(tmp_path / "first" / "state" / "averages.safetensors")
    weights = load_file(tmp_path / "first" / "state" / "model.safetensors")
    for name, weight in model.named_parameters():
        assert torch.equal(held[f"average:{name}"], weight) and not torch.equal(weights[name], weight)
    longer = config.model_copy(update={"max_steps": 1, "warmup_steps": 0, "lr": 1e-9, "init_from": tmp_path / "first"})
    pretrain(longer, **inputs.named(), out=tmp_path / "second")
    later = load_file(tmp_path / "second" / "state" / "averages.safetensors")
    kept = (1 + 9) / (10 + 9)  # the ninth step drawn into it
    assert later.pop("average:updates") == held.pop("average:updates") + 1 == 9
    for name, average in held.items():
        expected = average * kept + weights[name.removeprefix("average:")] * (1 - kept)
        assert torch.allclose(later[name], expected, atol=1e-6)


def test_a_run_again_in_the_same_folder_has_nothing_to_do(inputs: Any, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "again"
    shutil.copytree(finished, out)
    assert read_progress(out) == Progress(8, 8, "steps")
    pretrain(TINY, **inputs.named(), out=out)
    assert published(out) == published(finished)


@pytest.mark.parametrize("file", ["model.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json"])
def test_a_damaged_newest_checkpoint_is_said_and_the_one_before_taken(
    file: str, inputs: Any, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    newest = out / ".progress" / "checkpoints" / "step-000008" / file
    data = bytearray(newest.read_bytes())
    data[len(data) // 2] ^= 1
    newest.write_bytes(data)
    pretrain(TINY, **inputs.named(), out=out)
    assert "step-000008 is damaged" in caplog.text
    assert published(out) == published(finished)


def test_checkpoints_of_other_settings_are_refused(inputs: Any, finished: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    with pytest.raises(UserError, match=r"other settings or data \(config.clip: 1.0 → 2.0; config.lr: 0.002 → 0.001\)"):
        pretrain(TINY.model_copy(update={"lr": 1e-3, "clip": 2.0}), **inputs.named(), out=out)


def test_a_run_goes_on_from_the_state_of_another(inputs: Any, finished: Path, tmp_path: Path) -> None:
    longer = TINY.model_copy(update={"max_steps": 4, "warmup_steps": 0, "init_from": finished})
    metrics = pretrain(longer, **inputs.named(), out=tmp_path)
    assert curve(tmp_path)[0]["loss"] < curve(finished)[0]["loss"] - 0.5
    state = json.loads((tmp_path / "state" / "state.json").read_text())
    assert state["next_sample"] == (8 + 4) * 4 and metrics["steps"] == 4


@pytest.mark.parametrize(("field", "other"), [("size", "smoke"), ("optimizer", "muon")])
def test_a_state_of_another_kind_of_run_is_refused(
    field: str, other: str, inputs: Any, finished: Path, tmp_path: Path
) -> None:
    config = TINY.model_copy(update={field: other, "init_from": finished / "state"})
    with pytest.raises(UserError, match=f"its {field} is '{getattr(TINY, field)}' and this run's is '{other}'"):
        pretrain(config, **inputs.named(), out=tmp_path)


def test_a_held_out_split_longer_or_shorter_than_a_sequence_is_measured(inputs: Any) -> None:
    from pipelines.pretraining.heldout import Heldout
    from pipelines.tokens.loader import TokenShards

    held = TokenShards(inputs.heldout)
    assert Heldout(held, inputs.tokenizer, 32, count=3, rows=2).ids_BS.shape == (3, 33)
    assert Heldout(held, inputs.tokenizer, 10_000, count=3, rows=2).ids_BS.shape == (1, held.tokens)


def test_shards_of_another_tokenizer_are_refused(inputs: Any, tmp_path: Path) -> None:
    other = tmp_path / "tokenizer"
    shutil.copytree(inputs.tokenizer, other)
    text = (other / "tokenizer.json").read_text()
    (other / "tokenizer.json").write_text(text.replace("<|system|>", "<|sysop|>"))
    with pytest.raises(UserError, match="give the tokenizer that made the shards"):
        pretrain(TINY, train=inputs.train, heldout=inputs.heldout, tokenizer=other, out=tmp_path / "out")


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has the device that the test wants absent")
def test_a_device_that_is_not_there_is_named(inputs: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="'cuda'"):
        pretrain(TINY.model_copy(update={"device": "cuda"}), **inputs.named(), out=tmp_path)


REHEARSAL = """
import json, os, random, signal, sys, time
from pathlib import Path
from pipelines.pretraining import causal_lm  # once, before the runs are forked
from pipelines.pretraining.pretrain import PretrainConfig, pretrain
from pipelines.tokens.loader import Samples, TokenShards

facts = json.loads(sys.argv[1])
config = PretrainConfig(**facts["config"])
inputs = {name: Path(path) for name, path in facts["inputs"].items()}
delays = random.Random(7)

def run(out):
    child = os.fork()
    if child == 0:
        pretrain(config, **inputs, out=out)
        os._exit(0)
    return child

os.waitpid(run(Path(facts["calm"])), 0)
disturbed, kills = Path(facts["disturbed"]), 0
for _ in range(3):
    child = run(disturbed)
    while not (disturbed / ".progress" / "progress.json").exists():
        time.sleep(0.002)
    time.sleep(delays.uniform(0.02, 0.2))
    os.kill(child, signal.SIGKILL)
    kills += os.WIFSIGNALED(os.waitpid(child, 0)[1])
_, status = os.waitpid(run(disturbed), 0)
print(json.dumps({"kills": kills, "status": status}))
"""


def test_a_run_killed_at_any_moment_ends_in_the_same_bytes(inputs: Any, tmp_path: Path) -> None:
    calm, disturbed = tmp_path / "calm", tmp_path / "disturbed"
    changes = {"micro_batch": 2, "publish": "average", "attention_dropout": 0.1}
    config = TINY.model_copy(update={"max_steps": 24, "checkpoint_every": 2, **changes})
    facts = {
        "config": config.model_dump(mode="json"),
        "inputs": {name: str(path) for name, path in inputs.named().items()},
        "calm": str(calm),
        "disturbed": str(disturbed),
    }
    done = subprocess.run(
        [sys.executable, "-c", REHEARSAL, json.dumps(facts)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["status"] == 0 and told["kills"] >= 2
    assert published(disturbed) == published(calm)


def test_pretraining_needs_no_library_beyond_those_of_a_bare_gpu_image() -> None:
    root = Path(__file__).parents[2]
    waiting, seen, outside = ["pipelines.pretraining.causal_lm", "pipelines.tokens.loader"], set(), set()
    while waiting:
        name = waiting.pop()
        if name in seen:
            continue
        seen.add(name)
        tree = ast.parse((root / (name.replace(".", "/") + ".py")).read_text())
        for node in tree.body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module]
            waiting += [name for name in names if name.startswith("pipelines.")]
            outside |= {name.partition(".")[0] for name in names if not name.startswith("pipelines.")}
    libraries = outside - set(sys.stdlib_module_names)
    assert libraries == {"torch", "numpy", "transformers", "safetensors", "pydantic"}


def test_the_state_to_go_on_from_is_pinned_by_its_content(finished: Path, tmp_path: Path) -> None:
    pins = PinCache(tmp_path / "pins.json")

    def pin(path: Path) -> str:
        return TINY.model_copy(update={"init_from": path}).roots()["init_from"].pin(pins)

    copy = tmp_path / "copy"
    shutil.copytree(finished / "state", copy)
    assert pin(finished) == pin(finished / "state") == pin(copy)
    assert "init_from" not in TINY.model_copy(update={"init_from": copy}).identity()
    (copy / "state.json").write_text("{}")
    assert pin(copy) != pin(finished)


def test_a_folder_without_a_state_is_refused_when_the_run_is_planned(tmp_path: Path) -> None:
    config = with_settings(smoke(), {"pretrain.init_from": str(tmp_path)})
    with pytest.raises(UserError, match=r"pretrain\.init_from: .* holds no state of a finished run"):
        full(config, Planner(Store(tmp_path / "store")))


def test_checkpoints_of_other_code_are_taken_up_and_said(
    inputs: Any, finished: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    for folder in (out / ".progress" / "checkpoints").iterdir():
        facts = json.loads((folder / "state.json").read_text())
        facts["run"]["code"] = "0" * 64
        (folder / "state.json").write_text(json.dumps(facts))
        digests = json.loads((folder / "digests.json").read_text())
        digests["state.json"] = sha256((folder / "state.json").read_bytes()).hexdigest()
        (folder / "digests.json").write_text(json.dumps(digests))
    pretrain(TINY, **inputs.named(), out=out)
    assert "going on from a checkpoint of other code (000000000000, now " in caplog.text
