import json
import shutil
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.compression.chats import read_chats
from pipelines.compression.distill import DistillConfig, distill
from pipelines.compression.distillation import divergence
from pipelines.finetuning.chat import default_template
from pipelines.finetuning.contract import check
from pipelines.finetuning.publishing import publish
from pipelines.models.build import build
from pipelines.models.counting import count_parameters
from pipelines.tokens.digest import tokenizer_digest

SPECIAL = ("<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
CONFIG = DistillConfig(
    size="tiny",
    sequence_length=64,
    global_batch=4,
    micro_batch=2,
    max_steps=8,
    warmup_steps=2,
    lr=5e-3,
    heldout_every=4,
    heldout_sequences=4,
    checkpoint_every=2,
)


def write_tokenizer(folder: Path) -> Tokenizer:
    folder.mkdir(parents=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: number for number, token in enumerate([*SPECIAL, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<|bos|>", "pad_token": "<|pad|>", "eos_token": "<|end|>"}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", **names}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return tokenizer


def write_shards(folder: Path, tokenizer: Path, text: str) -> None:
    folder.mkdir()
    encoder = Tokenizer.from_file(str(tokenizer / "tokenizer.json"))
    ids = np.array([0, *encoder.encode(text).ids], "<u2")
    ids.tofile(folder / "shard-00000.bin")
    index = {
        "dtype": "uint16",
        "tokens": len(ids),
        "bytes": len(text.encode()),
        "documents": 1,
        "vocab_size": encoder.get_vocab_size(),
        "tokenizer_digest": tokenizer_digest(tokenizer),
        "shards": [{"file": "shard-00000.bin", "tokens": len(ids)}],
    }
    (folder / "index.json").write_text(json.dumps(index))


def write_chats(path: Path, answers: list[str]) -> None:
    rows = [
        {"messages": [{"role": "user", "content": "Mill?"}, {"role": "assistant", "content": answer}]}
        for answer in answers
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A teacher of random weights, a text, and a few conversations of which one is too long."""
    folder = tmp_path_factory.mktemp("inputs")
    write_tokenizer(folder / "tokenizer")
    write_shards(folder / "train", folder / "tokenizer", "The miller grinds what the farmer brings. " * 20)
    (folder / "instructions").mkdir()
    write_chats(folder / "instructions" / "train.jsonl", [f"Grain {number}." for number in range(9)] + ["x" * 99])
    write_chats(folder / "instructions" / "heldout.jsonl", ["Grain 10.", "Grain 11."])
    torch.manual_seed(1)
    teacher = build("smoke", 262, 96)
    tokenizer = AutoTokenizer.from_pretrained(folder / "tokenizer")
    publish(teacher, tokenizer, folder / "tokenizer", default_template(), folder / "teacher")
    return {name: folder / name for name in ("teacher", "train", "instructions")}


def published(out: Path) -> dict[str, str]:
    files = [path for name in ("model", "curve") for path in sorted((out / name).iterdir())]
    return {str(path.relative_to(out)): sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def finished(inputs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, float]]:
    out = tmp_path_factory.mktemp("finished")
    return out, distill(CONFIG, **inputs, out=out)


def test_the_student_is_smaller_and_keeps_the_contract_of_its_teacher(
    inputs: dict[str, Path], finished: tuple[Path, dict[str, float]]
) -> None:
    out, metrics = finished
    assert check(out / "model") == check(inputs["teacher"])
    student = AutoModelForCausalLM.from_pretrained(out / "model", local_files_only=True)
    assert metrics["parameters"] == count_parameters("tiny", 262) == sum(p.numel() for p in student.parameters())
    assert metrics["parameters"] < count_parameters("smoke", 262) / 2


def test_what_cannot_be_learnt_from_is_dropped_with_a_reason(finished: tuple[Path, dict[str, float]]) -> None:
    metrics = finished[1]
    assert (metrics["in"], metrics["kept"], metrics["dropped.too_long"]) == (10, 9, 1)


def test_the_student_comes_nearer_to_its_teacher(inputs: dict[str, Path], tmp_path: Path) -> None:
    config = CONFIG.model_copy(update={"max_steps": 30, "heldout_every": 10, "ce_share": 0.0})
    distill(config, **inputs, out=tmp_path)
    rows = [json.loads(line) for line in (tmp_path / "curve" / "curve.jsonl").read_text().splitlines()]
    first, *_, last = (row["heldout_kl"] for row in rows if "heldout_kl" in row)
    assert last < 0.8 * first
    assert rows[-1]["loss"] < rows[0]["loss"]


def test_a_student_taken_up_again_ends_in_the_same_bytes(
    inputs: dict[str, Path], finished: tuple[Path, dict[str, float]], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(finished[0], out)
    for name in ("model", "curve", ".progress/checkpoints/step-000008"):
        shutil.rmtree(out / name)
    distill(CONFIG, **inputs, out=out)
    assert published(out) == published(finished[0])


def test_packed_chats_hold_whole_conversations_and_only_answers_as_targets(inputs: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs["teacher"])
    chats, _ = read_chats(inputs["instructions"] / "train.jsonl", tokenizer, default_template(), 64)
    ids, targets = chats.spread(99)
    rows = [tokenizer.decode(row) for row in ids]
    assert sum(row.count("<|bos|>") for row in rows) == 9
    assert all(row.startswith("<|bos|><|user|>Mill?<|end|><|assistant|>Grain") for row in rows)
    said = [tokenizer.decode(row[row != -100]) for row in targets]
    assert "".join(said) == "".join(f"Grain {number}.<|end|>" for number in range(9))


def test_an_epoch_of_chats_takes_each_sequence_once(inputs: dict[str, Path]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(inputs["teacher"])
    chats, _ = read_chats(inputs["instructions"] / "train.jsonl", tokenizer, default_template(), 64)
    whole, _ = chats.take(0, len(chats), seed=3)
    again, _ = chats.take(len(chats), len(chats), seed=3)
    assert sorted(whole.tolist()) == sorted(again.tolist()) == sorted(chats.spread(99)[0].tolist())


def test_the_divergence_is_nothing_between_equals_and_is_that_of_torch_otherwise() -> None:
    torch.manual_seed(0)
    student, teacher = torch.randn(5, 7), torch.randn(5, 7)
    assert float(divergence(teacher, teacher)) == pytest.approx(0, abs=1e-6)
    expected = torch.distributions.kl_divergence(
        torch.distributions.Categorical(logits=teacher / 2), torch.distributions.Categorical(logits=student / 2)
    ).sum()
    assert float(divergence(student, teacher, 2.0)) == pytest.approx(4 * float(expected), rel=1e-5)


def test_no_usable_conversation_is_a_failed_stage(inputs: dict[str, Path], tmp_path: Path) -> None:
    shutil.copytree(inputs["instructions"], tmp_path / "instructions")
    (tmp_path / "instructions" / "train.jsonl").write_text('{"messages": []}\n')
    with pytest.raises(EmptyOutput, match="no_messages 1"):
        distill(CONFIG, **{**inputs, "instructions": tmp_path / "instructions"}, out=tmp_path / "out")


def test_a_sequence_longer_than_the_teacher_reads_is_refused(inputs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="more than the teacher's 96"):
        distill(CONFIG.model_copy(update={"sequence_length": 97}), **inputs, out=tmp_path)
