"""Writing a bundle: every precision under one contract, the cards, the index, and the proof that it loads."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import torch

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.manifest import FileEntry
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.stage import Metrics
from pipelines.finetuning.contract import TEMPLATE_FILE, check, stamp
from pipelines.finetuning.rendering import portable_template
from pipelines.models.loading import load_model, no_bars
from pipelines.reporting.data_card import data_card
from pipelines.reporting.gather import manifests_of
from pipelines.reporting.model_card import Facts, model_card
from pipelines.serving.bundle import FORMAT, INDEX, BundleIndex, Precision, open_bundle
from pipelines.serving.engine import Engine, Sampling
from pipelines.serving.package import PackageConfig
from pipelines.serving.prompts import Prompter
from pipelines.serving.schema import Message

FULL = "full"
FOLDERS = {FULL: "model", "int8": "int8", "int4": "int4"}
TRIES = 4


def packaged(
    config: PackageConfig, model: Path, quantized: Mapping[str, Path | None], scores: Path | None, out: Path
) -> Metrics:
    """Write `bundle/` and return its sizes; raise StageFailed where a precision does not load back and generate."""
    contract = check(model)
    sources = {name: path for name, path in quantized.items() if path is not None}
    if config.default_precision not in {FULL, *sources}:
        raise UserError(
            f"default_precision: {config.default_precision!r} was not built; give its quantize node or take {FULL!r}"
        )
    bundle = out / "bundle"
    _write_full(config, model, bundle / FOLDERS[FULL])
    for name, path in sources.items():
        if check(path) != contract:
            raise UserError(f"{name}: {path} keeps another contract than {model}; quantize that very model")
        shutil.copytree(path, bundle / FOLDERS[name])
    _write_template(model, bundle)
    inputs = {"model": model, **sources, **({"scores": scores} if scores else {})}
    manifests = manifests_of(inputs)
    facts = Facts(
        name=config.name,
        language=config.language,
        licence=config.licence,
        folder=bundle / FOLDERS[FULL],
        contract=contract,
        manifests=manifests,
        scores=scores,
        quantized={name: path.parent / "scores" for name, path in sources.items()},
    )
    (bundle / "README.md").write_text(model_card(facts), encoding="utf-8")
    (bundle / "DATA_CARD.md").write_text(
        data_card(manifests, language=config.language, licence=config.data_licence), encoding="utf-8"
    )
    index = _write_index(config, contract.digest, [FULL, *sources], bundle)
    _load_back(config, bundle, list(index.precisions))
    sizes = {f"{name}_bytes": float(precision.bytes) for name, precision in index.precisions.items()}
    return {"files": float(len(index.files)), "precisions": float(len(sizes)), **sizes}


def _write_full(config: PackageConfig, source: Path, folder: Path) -> None:
    """Write the model in the bundle's full precision with its tokenizer, template and generation config."""
    model = load_model(source, dtype=getattr(torch, config.dtype))
    with no_bars():
        model.save_pretrained(folder)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".jinja") and file.name != "config.json" and ".index." not in file.name:
            shutil.copyfile(file, folder / file.name)
    stamp(folder)


def _write_template(model: Path, bundle: Path) -> None:
    """Write the chat template without its training marks, for readers that know plain Jinja only.

    The models keep the template of their contract, marks and all: transformers reads them.
    """
    template = model / TEMPLATE_FILE
    if template.is_file():
        (bundle / "portable").mkdir()
        (bundle / "portable" / TEMPLATE_FILE).write_text(
            portable_template(template.read_text(encoding="utf-8")), encoding="utf-8", newline="\n"
        )


def _write_index(config: PackageConfig, contract: str, precisions: list[str], bundle: Path) -> BundleIndex:
    """Write `bundle.json`, which lists every other file."""
    files = {
        file.relative_to(bundle).as_posix(): FileEntry(sha256=file_digest(file), bytes=file.stat().st_size)
        for file in sorted(bundle.rglob("*"))
        if file.is_file()
    }
    index = BundleIndex(
        format=FORMAT,
        name=config.name,
        contract=contract,
        default_precision=config.default_precision,
        precisions={
            name: Precision(
                folder=FOLDERS[name],
                bytes=sum(entry.bytes for file, entry in files.items() if file.startswith(f"{FOLDERS[name]}/")),
            )
            for name in precisions
        },
        files=files,
    )
    (bundle / INDEX).write_text(json.dumps(index.model_dump(), indent=1) + "\n", encoding="utf-8")
    return index


def _load_back(config: PackageConfig, bundle: Path, precisions: list[str]) -> None:
    """Raise StageFailed unless each precision, loaded from the written folder, generates text."""
    try:
        opened = open_bundle(bundle)
    except UserError as error:
        raise StageFailed(f"package: the written bundle does not open: {error}") from error
    for precision in precisions:
        engine = Engine(opened.model(precision), config.device)
        prompter = Prompter(opened.model(precision), engine.tokenizer)
        turn = Message(role="user", content=config.trial_prompt)
        prompt = prompter.chat([turn]) if prompter.template else prompter.text(config.trial_prompt)
        room = engine.context - len(prompt)
        if room < 1:
            raise UserError(f"trial_prompt: its {len(prompt)} tokens fill the context of {engine.context}; shorten it")
        sampling = Sampling(max_tokens=min(config.trial_tokens, room), choices=TRIES)
        if not any(piece.text for piece in engine.complete(prompt, sampling)):
            raise StageFailed(f"package: the {precision} model ended {TRIES} completions without a word of text")
