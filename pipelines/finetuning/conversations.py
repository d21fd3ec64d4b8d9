"""Supervised fine-tuning by TRL on conversations whose ids and loss mask are made here."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import peft
import pyarrow as pa
import torch
from trl.trainer.sft_config import SFTConfig as Arguments
from trl.trainer.sft_trainer import SFTTrainer

from pipelines.artifacts.curve import write_curve
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.stage import Metrics
from pipelines.finetuning.chat import encode_chat, refusal
from pipelines.finetuning.head import score_labels_only
from pipelines.finetuning.order import arranged, shortest_first
from pipelines.finetuning.publishing import chat_length, load_tokenizer, publish, read_template
from pipelines.finetuning.rows import Encoded, Examples, stored
from pipelines.finetuning.sft import SFTConfig
from pipelines.finetuning.training import Contained, arguments, calm, fit
from pipelines.models.loading import load_model
from pipelines.pretraining.losses import IGNORED

ROW = pa.schema([("input_ids", pa.list_(pa.int32())), ("labels", pa.list_(pa.int32()))])


class Trainer(Contained, SFTTrainer):
    """TRL's trainer on finished rows."""


@calm()
def finetune(config: SFTConfig, model: Path, template: Path, instructions: Path, out: Path) -> Metrics:
    """Train, publish the model with its contract, and return counts and losses."""
    length = chat_length(model, config.max_length)
    tokenizer, text = load_tokenizer(model), read_template(template)
    check_ending(tokenizer, text)
    settings = arguments(
        Arguments,
        config,
        out,
        max_length=None,
        eval_strategy="steps" if config.heldout else "no",
        eval_steps=config.heldout_every,
        dataset_kwargs={"skip_prepare_dataset": True},
    )

    def encode(row: Mapping[str, Any]) -> Encoded | str:
        return encode_row(row, tokenizer, text, length)

    train = Examples(instructions / "train.jsonl", encode)
    rows = stored("sft", train, ROW, out)
    heldout = stored("sft", Examples(instructions / "heldout.jsonl", encode), ROW, out) if config.heldout else None
    trainer = Trainer(
        load_model(model, dtype=torch.float32),
        args=settings,
        train_dataset=arranged(rows, ("input_ids",), config.global_batch, config.max_steps, config.seed),
        eval_dataset=heldout and shortest_first(heldout, "input_ids", config.heldout),
        processing_class=tokenizer,
        peft_config=adapter(config) if config.method == "lora" else None,
    )
    if config.device == "cpu":
        score_labels_only(trainer.model)
    tuned, curve = fit(trainer, config, out, "sft")
    write_curve(out, curve)
    if config.method == "lora":
        publish_adapter(tuned, out / "adapter")
        tuned = tuned.merge_and_unload()
    publish(tuned, tokenizer, model, text, out / "model")
    last = curve[-1]
    kept = ("loss", "heldout_loss", "tokens")
    return {
        **train.metrics(),
        "steps": float(last["step"]),
        **{name: float(last[name]) for name in kept if name in last},
    }


def encode_row(row: Mapping[str, Any], tokenizer: Any, template: str, length: int) -> Encoded | str:
    """Return a conversation's ids and labels, or the reason why it cannot be trained on."""
    messages = row.get("messages")
    reason = refusal(messages)
    if reason or messages is None:
        return reason or "no_messages"
    if not any(turn["role"] == "assistant" for turn in messages):
        return "no_assistant"
    ids, mask = encode_chat(tokenizer, messages, template)
    if len(ids) > length:
        return "too_long"
    return {"input_ids": ids, "labels": [one if said else IGNORED for one, said in zip(ids, mask, strict=True)]}


def check_ending(tokenizer: Any, template: str) -> None:
    """Raise UserError unless the last thing the assistant is trained to say is the end-of-sequence token."""
    turns = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    ids, mask = encode_chat(tokenizer, turns, template)
    said = [one for one, spoken in zip(ids, mask, strict=True) if spoken]
    if not said or said[-1] != tokenizer.eos_token_id:
        raise UserError(
            f"template: an assistant's turn does not end in {tokenizer.eos_token} inside {{% generation %}}; "
            "the model could not learn to stop"
        )


def adapter(config: SFTConfig) -> peft.LoraConfig:
    """Return peft's settings of the adapter."""
    return peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=config.lora.rank,
        lora_alpha=config.lora.alpha,
        lora_dropout=0.0,
        target_modules=list(config.lora.targets),
    )


def publish_adapter(model: Any, folder: Path) -> None:
    """Write the adapter so that its bytes tell nothing of this machine or of the order of a set."""
    model.save_pretrained(str(folder), save_embedding_layers=False)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings["base_model_name_or_path"] = None
    settings["target_modules"] = sorted(settings["target_modules"])
    path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
