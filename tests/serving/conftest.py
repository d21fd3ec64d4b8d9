"""A tiny model that has learnt one text by heart, as an artifact in a store, and a bundle of it."""

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import torch
import uvicorn
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from pipelines.artifacts.manifest import InputEntry, Manifest
from pipelines.compression.quantize import QuantizeConfig, quantize
from pipelines.finetuning.chat import default_template, encode_chat
from pipelines.finetuning.contract import stamp
from pipelines.serving.package import PackageConfig, package
from pipelines.serving.serve import address_of, listen, make_server
from pipelines.tokens.digest import tokenizer_digest

SPECIAL = ["<|bos|>", "<|pad|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
QUESTION = "What does the mill do?"
ANSWER = "It grinds wheat 🌾 into flour, STOP and sells it at the market every single day of the year."


def make_tokenizer(vocab_size: int = 300) -> PreTrainedTokenizerFast:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=SPECIAL,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(["the mill grinds wheat into flour and sells it at the market"] * 3, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|bos|>", eos_token="<|end|>", pad_token="<|pad|>"
    )


def write_model(folder: Path, *, steps: int = 0, template: bool = True) -> Path:
    folder.mkdir(parents=True)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=80,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=192,
        bos_token_id=0,
        pad_token_id=1,
        eos_token_id=5,
        tie_word_embeddings=True,
        dtype="float32",
    )
    model: Any = LlamaForCausalLM(config)
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    ids = torch.tensor([encode_chat(tokenizer, turns, default_template())[0]])
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01)
    for _ in range(steps):
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.save_pretrained(folder)
    if template:
        (folder / "chat_template.jinja").write_text(default_template())
    stamp(folder)
    return folder


def publish(store: Path, stage: str, key: str, inputs: dict[str, InputEntry], **more: Any) -> None:
    """Write the manifest of an artifact that a test made by hand; host and times differ with every call."""
    manifest = Manifest(
        stage=stage,
        version=1,
        key=key,
        config={"source": str(store)},
        identity=more.get("identity", {"seed": 0}),
        roots=more.get("roots", {}),
        inputs=inputs,
        outputs={"model": "d" * 64},
        files={},
        libraries={},
        metrics=more.get("metrics", {}),
        code="c",
        commit=str(time.time_ns()),
        seconds=time.monotonic(),
        peak_memory_bytes=time.monotonic_ns(),
        built_at=str(time.time()),
        host=str(store),
    )
    (store / stage / key / "manifest.json").write_text(manifest.model_dump_json())


def entry(stage: str, key: str, output: str = "model") -> InputEntry:
    return InputEntry(stage=stage, key=key, output=output, digest="d" * 64)


@dataclass
class Built:
    """A store with a crawl, a model, its quantized forms and its scores."""

    store: Path

    @property
    def model(self) -> Path:
        return self.store / "align" / ("a" * 64) / "model"

    @property
    def int8(self) -> Path:
        return self.store / "quantize" / ("8" * 64) / "model"

    @property
    def int4(self) -> Path:
        return self.store / "quantize" / ("4" * 64) / "model"

    @property
    def scores(self) -> Path:
        return self.store / "evaluate" / ("e" * 64) / "scores"


def build_store(store: Path) -> Built:
    built = Built(store)
    write_model(built.model, steps=150)
    for stage, key in (("ingest", "1" * 64), ("filter", "2" * 64)):
        (store / stage / key).mkdir(parents=True)
    counts = {"in": 10.0, "kept": 8.0, "dropped.too_short": 2.0}
    publish(store, "ingest", "1" * 64, {}, metrics=counts, roots={"source.files": "f" * 64})
    publish(store, "filter", "2" * 64, {"documents": entry("ingest", "1" * 64, "documents")}, metrics=counts)
    publish(store, "align", "a" * 64, {"model": entry("filter", "2" * 64)}, metrics={"tokens": 1234.0})
    heldout = write_shards(store / "shard" / "heldout", built.model)
    for bits, key in ((8, "8" * 64), (4, "4" * 64)):
        out = store / "quantize" / key
        out.mkdir(parents=True)
        config = QuantizeConfig(bits=bits, windows=2, window_tokens=32)
        metrics = quantize(config, model=built.model, heldout=heldout, out=out)
        publish(store, "quantize", key, {"model": entry("align", "a" * 64)}, metrics=metrics)
    built.scores.mkdir(parents=True)
    score = {"task": "docs_mc", "metric": "acc", "value": 0.5, "low": 0.4, "high": 0.6, "n": 90}
    (built.scores / "scores.json").write_text(json.dumps({"scores": [score | {"higher_is_better": True}]}))
    publish(store, "evaluate", "e" * 64, {"model": entry("align", "a" * 64)})
    return built


def write_shards(folder: Path, model: Path) -> Path:
    """Write the learnt conversation, over and over, as one split of shards."""
    tokenizer = make_tokenizer()
    turns = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": ANSWER}]
    ids = encode_chat(tokenizer, turns, default_template())[0] * 2
    folder.mkdir(parents=True)
    (folder / "shard-00000.bin").write_bytes(b"".join(number.to_bytes(2, "little") for number in ids))
    index = {
        "dtype": "uint16",
        "tokens": len(ids),
        "bytes": 1,
        "documents": 2,
        "vocab_size": len(tokenizer),
        "tokenizer_digest": tokenizer_digest(model),
        "shards": [{"file": "shard-00000.bin", "tokens": len(ids)}],
    }
    (folder / "index.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_store(tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def bundle(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("package")
    config = PackageConfig(name="mill-1", dtype="float32")
    package(config, model=built.model, int8=built.int8, int4=built.int4, scores=built.scores, out=out)
    return out / "bundle"


@dataclass
class Running:
    """A server on loopback, in a thread."""

    url: str
    server: uvicorn.Server


@pytest.fixture(scope="session")
def start(bundle: Path) -> Iterator[Callable[..., Running]]:
    """A function that starts a server of the bundle and returns once it answers."""
    begun: list[tuple[uvicorn.Server, threading.Thread, socket.socket]] = []

    def begin(**more: Any) -> Running:
        listener = listen("127.0.0.1", 0, more.get("api_key"))
        server = make_server(**{"bundle": bundle, **more})
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        begun.append((server, thread, listener))
        url = address_of(listener)
        httpx.get(f"{url}/health", timeout=30)
        return Running(url, server)

    yield begin
    for server, thread, listener in begun:
        server.should_exit = True
        thread.join(30)
        listener.close()


@pytest.fixture(scope="session")
def running(start: Callable[..., Running]) -> Running:
    return start()
