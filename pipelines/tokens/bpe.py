"""Byte-level BPE: the split pattern, the training, and the folder that transformers loads."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.progress import track
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file
from pipelines.tokens.compression import measure
from pipelines.tokens.digest import TOKENIZER_FILE
from pipelines.tokens.sample import draw
from pipelines.tokens.special import ASSISTANT, BOS, END, PAD, SPECIAL_TOKENS, SYSTEM, USER
from pipelines.tokens.tokenizer import TokenizerConfig

MAX_RUN = 64
"""Letters, marks or blanks in one piece: a run of millions without a break would keep the trainer busy for hours."""


def build(config: TokenizerConfig, documents: Path, out: Path) -> Metrics:
    """Write `tokenizer/` and `quality/quality.json` below `out` and return the figures of both."""
    sample = draw(documents, config)
    if not sample.documents:
        raise EmptyOutput("tokenizer", {"in": 0})
    texts = track(sample.training(), "learning merges", total=sample.training_documents, unit="documents")
    learnt = train(texts, config)
    save(learnt, out / "tokenizer", out)
    quality = measure(learnt, sample)
    with atomic_file(out / "quality" / "quality.json", out) as fresh:
        fresh.write_text(json.dumps(quality.as_json(), indent=2, sort_keys=True) + "\n", encoding="utf-8")
    return {
        "documents": float(sample.documents),
        "sample.documents": float(sample.training_documents),
        "sample.bytes": float(sample.training_bytes),
        "vocab_size": float(learnt.get_vocab_size()),
        "bytes_per_token": quality.total.bytes_per_token,
        "used_share": quality.used_share,
    }


def split_pattern(digits: int) -> str:
    """Return how text is cut before merging: as for GPT-4, with `digits` at most together and no run beyond 64."""
    run = f"{{1,{MAX_RUN}}}"
    return "|".join(
        (
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)",
            rf"[^\r\n\p{{L}}\p{{N}}]?\p{{L}}{run}",
            rf"\p{{N}}{{1,{digits}}}",
            rf" ?[^\s\p{{L}}\p{{N}}]{run}[\r\n]{{0,{MAX_RUN}}}",
            rf"\s{{0,{MAX_RUN}}}[\r\n]{run}",
            rf"\s{run}(?!\S)",
            rf"\s{run}",
        )
    )


def train(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Return the tokenizer that these texts give; raise UserError when they give fewer tokens than are wanted."""
    learnt = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(split_pattern(config.digits)), "isolated")
    to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    learnt.pre_tokenizer = pre_tokenizers.Sequence([split, to_bytes])
    learnt.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    learnt.train_from_iterator(texts, trainer)
    reached = learnt.get_vocab_size()
    if reached < config.vocab_size:
        raise UserError(
            f"tokenizer.vocab_size: {config.vocab_size:,} is more than this corpus yields with min_frequency "
            f"{config.min_frequency}; set it to at most {reached:,} or give more text"
        )
    return learnt


def save(learnt: Tokenizer, folder: Path, out: Path) -> None:
    """Write the tokenizer with the two files that name its special tokens for transformers."""
    named = {
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [SYSTEM, USER, ASSISTANT],
    }
    described = {
        **named,
        "clean_up_tokenization_spaces": False,
        "tokenizer_class": "PreTrainedTokenizerFast",
    }
    files = {
        TOKENIZER_FILE: learnt.to_str(pretty=True),
        "tokenizer_config.json": json.dumps(described, indent=2, sort_keys=True),
        "special_tokens_map.json": json.dumps(named, indent=2, sort_keys=True),
    }
    for name, content in files.items():
        with atomic_file(folder / name, out) as fresh:
            fresh.write_text(content + "\n", encoding="utf-8")
