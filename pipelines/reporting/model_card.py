"""The model card: a README with the hub's front matter, filled from manifests and scores and from nothing else."""

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from pipelines.artifacts.manifest import Manifest
from pipelines.evaluation.scores import Score, read_scores
from pipelines.finetuning.contract import Contract
from pipelines.reporting.card_tables import settings, table, whole_key

TRAINING = ("pretrain", "sft", "reward", "align", "distill")
ARCHITECTURE = (
    ("Layers", "num_hidden_layers"),
    ("Hidden size", "hidden_size"),
    ("Intermediate size", "intermediate_size"),
    ("Attention heads", "num_attention_heads"),
    ("Key-value heads", "num_key_value_heads"),
    ("Vocabulary", "vocab_size"),
    ("Context, tokens", "max_position_embeddings"),
)


@dataclass(frozen=True)
class Facts:
    """What a model card is written from."""

    name: str
    language: str
    licence: str
    folder: Path
    contract: Contract
    manifests: list[Manifest]
    scores: Path | None
    quantized: Mapping[str, Path]


def model_card(facts: Facts) -> str:
    """Return the card as markdown; the same artifacts give the same card, whenever and wherever they were built."""
    front = {
        "language": facts.language,
        "license": facts.licence,
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "tags": ["gristmill"],
    }
    sections = [
        f"---\n{yaml.safe_dump(front, sort_keys=False)}---",
        f"# {facts.name}",
        "A causal language model, built from crawl to bundle by Gristmill. Its data are described in `DATA_CARD.md`.",
        _architecture(facts),
        _training(facts.manifests),
        _contract(facts.contract),
        _evaluation(facts.scores),
        _quantization(facts),
        _use(facts),
        _lineage(facts.manifests),
    ]
    return "\n\n".join(section for section in sections if section) + "\n"


def count_parameters(folder: Path) -> int:
    """Return the number of parameters in a folder's safetensors, read from their headers; tied ones stand once."""
    total = 0
    for file in sorted(folder.glob("*.safetensors")):
        with file.open("rb") as weights:
            (length,) = struct.unpack("<Q", weights.read(8))
            header: dict[str, Any] = json.loads(weights.read(length))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total


def _architecture(facts: Facts) -> str:
    config = json.loads((facts.folder / "config.json").read_text(encoding="utf-8"))
    rows = [
        ["Class", ", ".join(config["architectures"])],
        ["Parameters", f"{count_parameters(facts.folder):,}"],
        ["Weights", str(config["dtype"])],
        *([title, f"{config[field]:,}"] for title, field in ARCHITECTURE if field in config),
    ]
    return "## Architecture\n\n" + table(["", ""], rows)


def _training(manifests: list[Manifest]) -> str:
    parts = ["## Training"]
    for manifest in manifests:
        if manifest.stage in TRAINING:
            figures = [[name, f"{value:,.6g}"] for name, value in sorted(manifest.metrics.items())]
            parts += [f"### `{manifest.stage}`", table(["figure", "value"], figures), settings(manifest)]
    return "\n\n".join(parts) if len(parts) > 1 else ""


def _contract(contract: Contract) -> str:
    rows = [[name, f"`{value}`"] for name, value in contract.as_json().items()]
    return (
        "## Contract\n\nEvery precision of the bundle has this tokenizer, chat template and maximum length. "
        "`portable/chat_template.jinja` is the same template without the training marks `{% generation %}`, for "
        "readers that know plain Jinja only.\n\n" + table(["part", "value"], rows)
    )


def _evaluation(scores: Path | None) -> str:
    if scores is None:
        return "## Evaluation\n\nThis model was packaged without an evaluation."
    rows = [_score_row(score) for score in read_scores(scores / "scores.json")]
    head = ["task", "metric", "value", "95% interval", "items", "better"]
    return "## Evaluation\n\nThe model as it was trained, before its weights were cast for this bundle.\n\n" + table(
        head, rows
    )


def _score_row(score: Score) -> list[str]:
    interval = f"{score.low:.4g} to {score.high:.4g}"
    better = "higher" if score.higher_is_better else "lower"
    return [score.task, score.metric, f"{score.value:.4g}", interval, f"{score.n:,}", better]


def _quantization(facts: Facts) -> str:
    rows = [
        [precision, *_score_row(score)[1:5]]
        for precision, folder in sorted(facts.quantized.items())
        for score in read_scores(folder / "scores.json")
    ]
    if not rows:
        return ""
    return "## Quantization\n\nMeasured on held-out text against the model it came from.\n\n" + table(
        ["precision", "metric", "value", "95% interval", "items"], rows
    )


def _use(facts: Facts) -> str:
    chat = "" if facts.contract.template else " It was not tuned for conversation."
    return (
        "## Intended use and limits\n\n"
        f"Completing text and answering in the language of its corpus ({facts.language}), for research and for trying "
        f"the method.{chat} Nothing it writes is checked: it can be wrong, biased or offensive, and repeat what it "
        f"read. It reads at most {facts.contract.max_length:,} tokens. Do not let it decide anything about people, and "
        "do not serve it to the public without filters. What was measured stands above with its interval; what is not "
        "listed was not measured."
    )


def _lineage(manifests: list[Manifest]) -> str:
    rows = [
        [
            manifest.stage,
            str(manifest.version),
            f"`{whole_key(manifest)}`",
            ", ".join(f"{name}: {entry.stage}/{entry.key[:12]}" for name, entry in sorted(manifest.inputs.items())),
        ]
        for manifest in manifests
    ]
    return "## Lineage\n\n" + table(["stage", "version", "key", "inputs"], rows)
