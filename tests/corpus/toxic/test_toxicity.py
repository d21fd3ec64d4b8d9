"""Toxicity: whole listed words are counted, the committed weights tell labelled texts apart, and sums are exact."""

import csv
import json
import lzma
import random
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from pipelines.artifacts.errors import UserError
from pipelines.corpus.toxic.labelled import Text, read_labelled
from pipelines.corpus.toxic.scoring import (
    HERE,
    WEIGHTS,
    count_listed_words,
    gram_buckets,
    listed_words,
    load_classifier,
    plain,
    toxicity_score,
)
from pipelines.corpus.toxic.training import auroc, features
from tests.corpus.labelled_sets import labelled_set


def held_out(name: str, data: Path, seed: int = 0) -> list[Text]:
    """Return the texts of a set that the published weights have not been trained on."""
    texts = read_labelled(labelled_set(name, data), set(), Counter())
    order = np.random.default_rng(seed).permutation(len(texts))
    return [texts[place] for place in order[: round(len(order) * 0.2)]]


@pytest.mark.parametrize(("name", "floor"), [("tweets", 0.96), ("comments", 0.78)])
def test_held_out_texts_are_ranked_as_labelled(name: str, floor: float, shared_data: Path) -> None:
    chosen = held_out(name, shared_data)[:1500]
    ranks = np.unique([toxicity_score(found.text) for found in chosen], return_inverse=True)[1]
    toxic = np.array([found.toxic for found in chosen], np.int64)
    assert auroc(toxic, ranks, np.ones_like(toxic)) >= floor


@pytest.mark.parametrize("name", ["news", "maths"])
def test_clean_prose_is_rarely_called_toxic(name: str, shared_data: Path) -> None:
    chosen = held_out(name, shared_data)[:500]
    assert np.mean([toxicity_score(found.text) > 0.5 for found in chosen]) <= 0.01


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
    model = load_classifier()
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
    model = load_classifier()
    logit = float((features([text]) @ model.weights.astype(float))[0]) * model.scale + model.bias
    assert toxicity_score(text) == pytest.approx(1 / (1 + np.exp(-logit)), abs=1e-6)


def test_the_weights_are_small_and_their_card_names_sources_licences_and_scores_side_by_side() -> None:
    card = json.loads((HERE / "toxicity_card.json").read_text(encoding="utf-8"))
    assert WEIGHTS.stat().st_size < 1_000_000
    assert all("MIT" in source["origin"] or "CC0" in source["origin"] for source in card["sources"].values())
    scores = card["auroc with 95% interval"]
    assert scores["tweets"]["in domain"][0] > 0.95
    for score in scores.values():
        for value, low, high in (score["in domain"], score["out of domain"]):
            assert low <= value <= high
    assert card["limits"]


def test_weights_that_are_none_are_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "a.safetensors").write_bytes(b"not weights at all")
    save_file({"weights": np.zeros(8, np.int16), "scale": np.ones(1), "bias": np.ones(1)}, tmp_path / "b.safetensors")
    for name in ("a", "b", "missing"):
        with pytest.raises(UserError, match="train_toxicity"):
            load_classifier(tmp_path / f"{name}.safetensors")
