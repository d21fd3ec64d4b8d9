"""A ladder of pre-training runs on English novels, as artifacts of a store: what is finished there is not run again."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.novels import novels

from pipelines.artifacts.manifest import Artifact
from pipelines.artifacts.run import LocalRun, tell
from pipelines.artifacts.store import Store
from pipelines.corpus.ingest import INGEST, IngestConfig
from pipelines.corpus.sources.rows import JsonlSource
from pipelines.pretraining.pretrain import PRETRAIN, PretrainConfig
from pipelines.tokens.shard import SHARD, ShardConfig
from pipelines.tokens.tokenizer import TOKENIZER, TokenizerConfig

VOCABULARY = 4096
LENGTH = 64
BATCH = 4
HELDOUT_SEQUENCES = 512


@dataclass(frozen=True)
class Rung:
    """One run: which model, on how many tokens, how fast."""

    size: Any
    tokens: int
    lr: float

    def config(self) -> PretrainConfig:
        """Return the settings; all but size, length and learning rate are those of every rung."""
        steps = self.tokens // (BATCH * LENGTH)
        return PretrainConfig(
            size=self.size,
            sequence_length=LENGTH,
            global_batch=BATCH,
            micro_batch=BATCH,
            max_steps=steps,
            lr=self.lr,
            warmup_steps=max(1, steps // 20),
            schedule="cosine",
            min_lr_ratio=0.1,
            compile="never",
            heldout_every=10**6,
            heldout_sequences=HELDOUT_SEQUENCES,
            checkpoint_every=250,
            log_interval=250,
            trackers=(),
        )


class Ladder:
    """Runs rungs on one corpus."""

    def __init__(self, store: Store, folder: Path) -> None:
        source = folder / "novels.jsonl"
        if not source.is_file():
            rows = [json.dumps({"text": text}) for part in novels() for text in part]
            source.write_text("\n".join(rows) + "\n")
        store.prepare()
        self.run = LocalRun(store, on_end=tell)
        read = self.run(INGEST, IngestConfig(source=JsonlSource(path=source)))
        config = TokenizerConfig(vocab_size=VOCABULARY)
        self.tokenizer = self.run(TOKENIZER, config, documents=read["documents"])["tokenizer"]
        self.shards = self.run(SHARD, ShardConfig(), documents=read["documents"], tokenizer=self.tokenizer)

    def loss(self, rung: Rung) -> float:
        """Return the held-out loss after a rung, which is run where the store lacks it."""
        done = self.trained(rung)
        return next(result.manifest.metrics["heldout_loss"] for result in self.run.results if result.path == done.path)

    def trained(self, rung: Rung) -> Artifact:
        """Return the artifact of a rung."""
        shards = self.shards
        node = f"pretrain.{rung.size}-{rung.tokens}-{rung.lr:g}"
        inputs = {"train": shards["train"], "heldout": shards["heldout"], "tokenizer": self.tokenizer}
        return self.run(PRETRAIN, rung.config(), node=node, **inputs)
