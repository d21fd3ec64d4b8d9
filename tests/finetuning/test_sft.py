"""Supervised fine-tuning learns the assistant's words alone, and survives being killed."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.artifacts.errors import EmptyOutput, StageFailed, UserError
from pipelines.finetuning.chat import default_template
from pipelines.finetuning.contract import check
from pipelines.finetuning.conversations import encode_row
from pipelines.finetuning.head import IGNORED
from pipelines.finetuning.rendering import portable_template
from pipelines.finetuning.sft import LoraConfig, SFTConfig, sft
from pipelines.finetuning.training import calm
from tests.finetuning.tiny import (
    assistant,
    build_model,
    digests,
    run_and_kill,
    user,
    write_instructions,
    write_rows,
    write_template,
)

SHORT = {"max_steps": 6, "global_batch": 8, "micro_batch": 4, "checkpoint_every": 2, "heldout_every": 4, "lr": 3e-3}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("sft")
    return {
        "model": build_model(folder / "model"),
        "template": write_template(folder / "template"),
        "instructions": write_instructions(folder / "instructions"),
    }


def train(inputs: dict[str, Path], out: Path, **config: Any) -> dict[str, float]:
    out.mkdir(exist_ok=True)
    return sft(SFTConfig(**{**SHORT, **config}), **inputs, out=out)


def test_the_model_learns_and_carries_template_and_contract(inputs: dict[str, Path], tmp_path: Path) -> None:
    metrics = train(inputs, tmp_path, max_steps=30, heldout_every=30)
    curve = [json.loads(line) for line in (tmp_path / "curve" / "curve.jsonl").read_text().splitlines()]
    assert [row["step"] for row in curve] == list(range(1, 31))
    assert set(curve[0]) == {"step", "loss", "lr", "grad_norm", "tokens"}
    assert curve[-1]["heldout_loss"] == metrics["heldout_loss"]
    assert curve[-1]["loss"] < curve[0]["loss"] - 1
    assert (metrics["in"], metrics["kept"], metrics["steps"]) == (60, 60, 30)
    assert check(tmp_path / "model").tokenizer == check(inputs["model"]).tokenizer
    assert check(tmp_path / "model").template is not None
    generation = json.loads((tmp_path / "model" / "generation_config.json").read_text())
    assert generation["eos_token_id"] == [5, 0]
    assert generation["pad_token_id"] == 1
    assert AutoTokenizer.from_pretrained(str(tmp_path / "model")).chat_template == default_template()


def test_loss_is_on_what_the_assistant_says_and_on_the_end_of_its_turn(inputs: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(str(inputs["model"]))
    turns = [user("the mill"), assistant("grinds"), user("wheat"), assistant("low")]
    row = encode_row({"messages": turns}, tokenizer, default_template(), 64)
    assert not isinstance(row, str)
    taught = [label for label in row["labels"] if label != IGNORED]
    assert tokenizer.decode(taught) == "grinds<|end|>low<|end|>"
    assert all(label in (IGNORED, one) for label, one in zip(row["labels"], row["input_ids"], strict=True))


def test_rows_that_teach_nothing_are_dropped_with_a_reason(inputs: dict[str, Path], tmp_path: Path) -> None:
    good = {"messages": [user("the mill"), assistant("grinds")]}
    rows = [
        good,
        {"messages": [user("the mill"), assistant("low " * 200)]},
        {"messages": [user("the mill")]},
        {"messages": [user("the mill"), assistant("")]},
        {"messages": [{"role": "tool", "content": "a"}]},
        {"messages": []},
        {},
        [],
        "<|end|>",
        good,
    ]
    for name in ("train", "heldout"):
        write_rows(tmp_path / "rows" / f"{name}.jsonl", rows)
    with (tmp_path / "rows" / "train.jsonl").open("ab") as file:
        file.write(b'{"messages": \xff\n\n{"messages"')
    metrics = train({**inputs, "instructions": tmp_path / "rows"}, tmp_path / "out", max_steps=1, global_batch=2)
    assert {name: metrics[name] for name in metrics if name.startswith(("in", "kept", "dropped"))} == {
        "in": 12,
        "kept": 2,
        "dropped.too_long": 1,
        "dropped.no_assistant": 1,
        "dropped.empty_turn": 1,
        "dropped.unknown_role": 1,
        "dropped.no_messages": 2,
        "dropped.invalid_json": 4,
    }


def test_no_usable_row_at_all_is_an_empty_output(inputs: dict[str, Path], tmp_path: Path) -> None:
    for name in ("train", "heldout"):
        write_rows(tmp_path / "rows" / f"{name}.jsonl", [{"messages": []}])
    with pytest.raises(EmptyOutput, match="no_messages 1"):
        train({**inputs, "instructions": tmp_path / "rows"}, tmp_path / "out")


def test_a_merged_adapter_gives_the_logits_of_the_adapter_beside_its_base(
    inputs: dict[str, Path], tmp_path: Path
) -> None:
    train(inputs, tmp_path, method="lora", lora=LoraConfig(rank=4, alpha=8, targets=("q_proj", "up_proj")), lr=3e-2)
    ids = torch.arange(6, 38)[None]
    base = AutoModelForCausalLM.from_pretrained(str(inputs["model"]))
    before = base(ids).logits
    with calm():
        beside = PeftModel.from_pretrained(base, str(tmp_path / "adapter")).eval()
    merged = AutoModelForCausalLM.from_pretrained(str(tmp_path / "model")).eval()
    with torch.inference_mode():
        torch.testing.assert_close(merged(ids).logits, beside(ids).logits)
        assert (merged(ids).logits - before).abs().max() > 0.01
    text = (tmp_path / "adapter" / "adapter_config.json").read_text()
    assert str(tmp_path.parent) not in text
    assert json.loads(text)["base_model_name_or_path"] is None


@pytest.mark.slow
@pytest.mark.parametrize("method", ["full", "lora"])
def test_a_run_that_was_killed_ends_in_the_same_bytes(inputs: dict[str, Path], tmp_path: Path, method: str) -> None:
    whole, killed, kills = run_and_kill("pipelines.finetuning.sft", {**SHORT, "method": method}, inputs, tmp_path)
    assert kills >= 2
    assert digests(killed) == digests(whole)


def test_the_size_of_a_micro_batch_and_of_checkpoints_stay_out_of_the_key() -> None:
    assert SFTConfig(micro_batch=3, checkpoint_every=7, device="cuda").identity() == SFTConfig().identity()


def test_mistakes_are_named_in_one_line(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="max_length: 65 is more than the model's 64"):
        train(inputs, tmp_path / "length", max_length=65)
    with pytest.raises(UserError, match="does not end in"):
        (tmp_path / "template").mkdir()
        (tmp_path / "template" / "chat_template.jinja").write_text(portable_template(default_template()))
        train({**inputs, "template": tmp_path / "template"}, tmp_path / "template-out")
    with pytest.raises(UserError, match=r"train.jsonl does not exist"):
        train({**inputs, "instructions": tmp_path}, tmp_path / "rows-out")
    if not torch.cuda.is_available():
        with pytest.raises(UserError, match="torch sees no GPU"):
            train(inputs, tmp_path / "device", device="cuda")


def test_a_loss_that_is_no_number_ends_the_run(inputs: dict[str, Path], tmp_path: Path) -> None:
    broken = AutoModelForCausalLM.from_pretrained(str(inputs["model"]))
    with torch.no_grad():
        broken.model.norm.weight.fill_(float("nan"))
    shutil.copytree(inputs["model"], tmp_path / "model")
    broken.save_pretrained(tmp_path / "model")
    with pytest.raises(StageFailed, match="sft: the loss is nan at step 1"):
        train({**inputs, "model": tmp_path / "model"}, tmp_path / "out")
