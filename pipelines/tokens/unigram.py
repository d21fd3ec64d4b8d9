"""Unigram probabilities over bytes, trained by sentencepiece: tokenizers' own trainer gives others at every run."""

import io
from collections import Counter
from collections.abc import Iterable

import regex
import sentencepiece
from tokenizers import models

from pipelines.artifacts.errors import UserError
from pipelines.tokens.byte_level import byte_of_character
from pipelines.tokens.pieces import split_pattern
from pipelines.tokens.tokenizer import TokenizerConfig

LONGEST_TOKEN = 16
"""Bytes; sentencepiece's own default, in characters."""

SHARES = 4
"""The sums of an iteration are added up in this many parts, whatever the processors: the scores depend on it."""


def learn_unigram(texts: Iterable[str], config: TokenizerConfig) -> models.Unigram:
    """Return the model that these texts give (Kudo 2018); with fewer tokens than wanted where they yield no more.

    In memory are the distinct pieces of the texts: their counts, and in training a suffix array.
    """
    trained = io.BytesIO()
    wanted = config.vocab_size - len(config.specials)
    rows = _rows(texts, config)
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(rows),
            model_writer=trained,
            input_format="tsv",
            model_type="unigram",
            vocab_size=wanted + 1,  # with sentencepiece's own unknown token, which bytes never need
            unk_id=0,
            bos_id=-1,
            eos_id=-1,
            normalization_rule_name="identity",
            add_dummy_prefix=False,
            remove_extra_whitespaces=False,
            split_by_unicode_script=False,
            split_by_number=False,
            split_by_whitespace=False,
            character_coverage=1.0,
            max_sentencepiece_length=LONGEST_TOKEN,
            hard_vocab_limit=False,
            num_threads=SHARES,
            minloglevel=2,
        )
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise UserError(
            f"tokenizer: unigram finds no tokens in this text ({reason}); give more, or take bpe"
        ) from error
    found = sentencepiece.SentencePieceProcessor(model_proto=trained.getvalue())
    learnt = [(found.id_to_piece(place), found.get_score(place)) for place in range(1, found.get_piece_size())]
    return models.Unigram([*((token, 0.0) for token in config.specials), *learnt[:wanted]])


def _rows(texts: Iterable[str], config: TokenizerConfig) -> list[str]:
    """Return each distinct piece as byte-level characters with its count, and the bytes that the texts lack."""
    cut = regex.compile(split_pattern(config.digits, config.whitespace))
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(cut.findall(text))
    character = {byte: name for name, byte in byte_of_character().items()}
    written = {"".join([character[byte] for byte in piece.encode()]): count for piece, count in counts.items()}
    missing = set(character.values()).difference(*written)
    return [f"{piece}\t{count}" for piece, count in sorted((written | dict.fromkeys(missing, 1)).items())]
