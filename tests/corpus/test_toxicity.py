"""Toxicity: whole listed words are counted, the committed weights tell labelled texts apart, and sums are exact."""

import csv
import json
import lzma
import random
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipelines.corpus.toxicity import (
    HERE,
    WEIGHTS,
    _classifier,
    count_listed_words,
    gram_buckets,
    listed_words,
    plain,
    toxicity_score,
)
from pipelines.corpus.train_toxicity import clean, comments, features, tweets


def auroc(positive: list[float], negative: list[float]) -> float:
    """Return the probability that a positive score is above a negative one, ties counting half."""
    above = np.subtract.outer(np.array(positive), np.array(negative))
    return float((above > 0).mean() + (above == 0).mean() / 2)


@pytest.mark.parametrize(("load", "floor"), [(tweets, 0.96), (comments, 0.78)])
def test_held_out_texts_are_ranked_as_labelled(load: object, floor: float, shared_data: Path) -> None:
    part = load(shared_data)  # type: ignore[operator]
    _, held = part.split()
    chosen = held[:1500]
    scores = [toxicity_score(part.texts[place]) for place in chosen]
    toxic = part.toxic[chosen]
    positive = [score for score, label in zip(scores, toxic, strict=True) if label]
    negative = [score for score, label in zip(scores, toxic, strict=True) if not label]
    assert auroc(positive, negative) >= floor


def test_clean_prose_is_rarely_called_toxic(shared_data: Path) -> None:
    part = clean(shared_data)
    _, held = part.split()
    assert np.mean([toxicity_score(part.texts[place]) > 0.5 for place in held[:1000]]) <= 0.01


def test_the_word_list_finds_nearly_every_slur_that_annotators_marked(shared_data: Path) -> None:
    with lzma.open(shared_data / "filters" / "hate-speech-labelled.csv.xz", "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))[:6000]
    hits = {label: [count_listed_words(row["tweet"]) > 0 for row in rows if row["class"] == label] for label in "012"}
    assert np.mean(hits["1"]) >= 0.8
    assert np.mean(hits["2"]) <= 0.1


def test_only_whole_words_count_in_any_case() -> None:
    assert count_listed_words("The class assessed Scunthorpe, a cockpit and the analysis.") == 0
    assert count_listed_words("IDIOT! what an idiot; idiots, idiotic_") == 4
    assert count_listed_words("") == 0


def test_the_list_is_found_as_a_plain_search_would_find_it() -> None:
    words = listed_words()
    chooser = random.Random(0)
    text = " ".join(chooser.choice([*words, "plain", "other", "class", "as"]) for _ in range(500))
    expected = sum(len(re.findall(rf"(?<![^\W_]){re.escape(word)}(?![^\W_])", text)) for word in words)
    assert count_listed_words(text) == expected


def test_the_worst_window_decides() -> None:
    calm = "The committee met in the morning and discussed the budget of the library for the next year. " * 20
    insult = "You are a stupid fucking idiot and a pathetic worthless moron, shut up you dumb bitch. "
    assert toxicity_score(calm) < 0.5 < 0.9 < toxicity_score(insult)
    assert toxicity_score(calm + insult * 3 + calm) > 0.9


@pytest.mark.parametrize("text", ["", "\x00", "!!", "\ufffd" * 300, "a" + "\u0301" * 5000, "\ud800", "x" * 100_000])
def test_hostile_texts_have_a_probability(text: str) -> None:
    assert 0 <= toxicity_score(text) <= 1


@given(st.text(max_size=400))
def test_scores_are_what_the_formula_gives(text: str) -> None:
    model = _classifier()
    letters = plain(text)
    sums, counts = [0], [0]
    for start in range(0, len(letters), 128):
        found = [buckets[start : start + 128] for buckets in gram_buckets(letters)]
        sums.append(sum(int(model.weights[bucket]) for part in found for bucket in part))
        counts.append(sum(map(len, found)))
    if not sum(counts):
        assert toxicity_score(text) == 0
        return
    pairs = range(1, max(len(sums) - 1, 2))
    windows = [(sums[at] + sum(sums[at + 1 : at + 2]), counts[at] + sum(counts[at + 1 : at + 2])) for at in pairs]
    logit = model.bias + model.scale * max(total / count**0.5 for total, count in windows)
    assert toxicity_score(text) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_training_and_scoring_read_the_same_features() -> None:
    text = "A short sentence that fits in one window."
    model = _classifier()
    logit = float((features([text]) @ model.weights.astype(float))[0]) * model.scale + model.bias
    assert toxicity_score(text) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_the_weights_are_small_and_their_card_names_sources_and_licences() -> None:
    card = json.loads((HERE / "toxicity_card.json").read_text(encoding="utf-8"))
    assert WEIGHTS.stat().st_size < 1_000_000
    assert all(("MIT" in source["from"]) or ("CC0" in source["from"]) for source in card["sources"].values())
    assert card["measured"]["published: trained on all three"]["auroc on tweets, held out"] > 0.95
    assert card["limits"]
