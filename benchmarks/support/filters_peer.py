"""Datatrove's filters as a process of their own, in an environment that has spaCy: what `filters.py` talks to.

A request is a line of JSON, {"do": "time" | "rules" | "words", "texts": [...]}, and so is the answer.
"""

import json
import sys
import time
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
)
from datatrove.pipeline.filters.c4_filters import C4ParagraphFilter
from datatrove.utils.text import split_into_sentences, split_into_words

OFF = 1e9
QUALITY = {
    "gopher_too_few_words": "min_doc_words",
    "gopher_too_many_words": "max_doc_words",
    "gopher_short_words": "min_avg_word_length",
    "gopher_long_words": "max_avg_word_length",
    "gopher_symbols": "max_symbol_word_ratio",
    "gopher_bullet_lines": "max_bullet_lines_ratio",
    "gopher_ellipsis_lines": "max_ellipsis_lines_ratio",
    "gopher_words_without_letters": "max_non_alpha_words_ratio",
    "gopher_few_stop_words": "min_stop_words",
}
REPETITION = {
    "gopher_duplicate_paragraph": "dup_para_frac",
    "gopher_duplicate_paragraph_char": "dup_para_char_frac",
    "gopher_duplicate_line": "dup_line_frac",
    "gopher_duplicate_line_char": "dup_line_char_frac",
}
FINEWEB = {
    "fineweb_punctuation": ("line_punct_thr", 0),
    "fineweb_short_lines": ("short_line_thr", OFF),
    "fineweb_repeated_lines": ("char_duplicates_ratio", OFF),
    "fineweb_line_feeds": ("new_line_ratio", OFF),
}


def single_rules() -> dict[str, Any]:
    """Return a filter for each rule, with its default threshold and all others off."""
    found: dict[str, Any] = {}
    for rule, name in QUALITY.items():
        off: dict[str, Any] = dict.fromkeys(QUALITY.values())
        off.pop(name)
        found[rule] = GopherQualityFilter(**off)
    for rule, name in REPETITION.items():
        off = {**dict.fromkeys(REPETITION.values()), "top_n_grams": (), "dup_n_grams": ()}
        off.pop(name)
        found[rule] = GopherRepetitionFilter(**off)
    whole = GopherRepetitionFilter()
    for n, share in whole.top_n_grams:
        off = {**dict.fromkeys(REPETITION.values()), "top_n_grams": ((n, share),), "dup_n_grams": ()}
        found[f"gopher_top_{n}_gram_char"] = GopherRepetitionFilter(**off)
    for n, share in whole.dup_n_grams:
        off = {**dict.fromkeys(REPETITION.values()), "top_n_grams": (), "dup_n_grams": ((n, share),)}
        found[f"gopher_duplicate_{n}_gram_char"] = GopherRepetitionFilter(**off)
    found["c4_lorem_ipsum"] = C4QualityFilter(min_num_sentences=-1, filter_curly_bracket=False)
    found["c4_curly_bracket"] = C4QualityFilter(min_num_sentences=-1, filter_lorem_ipsum=False)
    found["c4_too_few_sentences"] = C4QualityFilter(filter_curly_bracket=False, filter_lorem_ipsum=False)
    found["c4_short_paragraphs"] = C4ParagraphFilter()
    for rule, (name, _) in FINEWEB.items():
        found[rule] = FineWebQualityFilter(**{other: off for other, off in FINEWEB.values() if other != name})
    return found


def chain() -> list[Any]:
    """Return the chain. C4 rewrites the text that it keeps, so it comes last: each then judges the same text."""
    return [GopherRepetitionFilter(), GopherQualityFilter(), FineWebQualityFilter(), C4QualityFilter()]


def passes(judge: Any, text: str) -> bool:
    """Return whether the filter keeps a document of this text."""
    return judge.filter(Document(text=text, id="")) is True


def answer(request: dict[str, Any], filters: list[Any], rules: dict[str, Any]) -> Any:
    """Return what is asked for, for each text; with "time" the seconds of CPU and which texts are kept."""
    texts = request["texts"]
    if request["do"] == "time":
        started = time.process_time()
        kept = [all(passes(judge, text) for judge in filters) for text in texts]
        return {"seconds": time.process_time() - started, "kept": kept}
    if request["do"] == "rules":
        return [{name: passes(judge, text) for name, judge in rules.items()} for text in texts]
    return [{"words": split_into_words(text), "sentences": len(split_into_sentences(text))} for text in texts]


def main() -> None:
    """Answer requests until there are no more."""
    filters, rules = chain(), single_rules()
    answer({"do": "time", "texts": ["The words of a first text are split. It makes spaCy load."]}, filters, rules)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line), filters, rules)), flush=True)


if __name__ == "__main__":
    main()
