"""Learning a byte-level vocabulary by one of three algorithms, and the folder that transformers loads."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.progress import track
from pipelines.artifacts.stage import Metrics
from pipelines.artifacts.work import atomic_file
from pipelines.tokens.compression import measure
from pipelines.tokens.digest import TOKENIZER_FILE
from pipelines.tokens.pieces import LONGEST_PIECE, byte_pieces
from pipelines.tokens.sample import draw
from pipelines.tokens.special import BOS, END, PAD
from pipelines.tokens.tokenizer import TokenizerConfig
from pipelines.tokens.unigram import learn_unigram


def build(config: TokenizerConfig, documents: Path, out: Path) -> Metrics:
    """Write `tokenizer/` and `quality/quality.json` below `out` and return the figures of both."""
    sample = draw(documents, config)
    if not sample.documents:
        raise EmptyOutput("tokenizer", {"in": 0})
    if not sample.training_bytes:
        raise UserError("tokenizer: the documents hold no text to learn from; name another source")
    texts = track(sample.training(), "learning tokens", total=sample.training_documents, unit="documents")
    learnt = train(texts, config)
    save(learnt, config, out / "tokenizer", out)
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


def train(texts: Iterable[str], config: TokenizerConfig) -> Tokenizer:
    """Return the tokenizer that these texts give; raise UserError when they give fewer tokens than are wanted."""
    learnt = Tokenizer(learn_unigram(texts, config)) if config.algorithm == "unigram" else Tokenizer(models.BPE())
    learnt.pre_tokenizer = byte_pieces(config.digits, config.whitespace)
    learnt.decoder = decoders.ByteLevel()
    if config.algorithm == "unigram":
        learnt.add_special_tokens(list(config.specials))
    else:
        _learn_merges(learnt, texts, config)
    reached = learnt.get_vocab_size()
    if reached < config.vocab_size:
        rule = "" if config.algorithm == "unigram" else f" with min_frequency {config.min_frequency}"
        raise UserError(
            f"tokenizer.vocab_size: {config.vocab_size:,} is more than this corpus yields{rule}; "
            f"set it to at most {reached:,} or give more text"
        )
    return learnt


def _learn_merges(learnt: Tokenizer, texts: Iterable[str], config: TokenizerConfig) -> None:
    """Train BPE, or WordPiece on the same merges, in place."""
    wanted: dict[str, Any] = {
        "vocab_size": config.vocab_size,
        "min_frequency": config.min_frequency,
        "special_tokens": list(config.specials),
        "initial_alphabet": sorted(pre_tokenizers.ByteLevel.alphabet()),
        "show_progress": False,
    }
    if config.algorithm == "bpe":
        learnt.train_from_iterator(texts, trainers.BpeTrainer(**wanted))
        return
    # Without a mark for what goes on a word, every byte is a token both inside one and at its start.
    learnt.model = models.WordPiece(continuing_subword_prefix="", max_input_chars_per_word=LONGEST_PIECE)
    learnt.train_from_iterator(texts, trainers.WordPieceTrainer(continuing_subword_prefix="", **wanted))


def save(learnt: Tokenizer, config: TokenizerConfig, folder: Path, out: Path) -> None:
    """Write the tokenizer with the two files that name its special tokens for transformers."""
    named = {
        "bos_token": BOS,
        "eos_token": END,
        "pad_token": PAD,
        "additional_special_tokens": [token for token in config.specials if token not in (BOS, END, PAD)],
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
