"""The stage that trains the toxicity classifier: reads labelled texts, splits, fits, scores in and out of domain."""

import gzip
import json
import lzma
import random
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from pipelines.artifacts import key as key_module
from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import LocalRun, Planner
from pipelines.artifacts.store import Store
from pipelines.corpus.annotate import AnnotateConfig, annotate
from pipelines.corpus.documents import read_documents
from pipelines.corpus.toxic.labelled import MAX_LINE, read_labelled
from pipelines.corpus.toxic.scoring import HERE, WEIGHTS, load_classifier
from pipelines.corpus.toxic.training import auroc, auroc_interval
from pipelines.corpus.train_toxicity import TRAIN_TOXICITY, LabelledSet, TrainToxicityConfig, train_toxicity
from pipelines.products import prepare_corpus
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from tests.corpus.labelled_sets import SETS, labelled_set
from tests.corpus.test_annotate import write_parts

CALM = ["the library opens at nine", "we met in the morning", "rain is expected today", "the train was on time"]
RUDE = ["you are a stupid idiot", "shut up you pathetic moron", "what a worthless fool you are", "dumb ugly loser"]


def write_set(path: Path, seed: int, rows: int = 60) -> Path:
    chooser = random.Random(seed)
    lines = ["text,label"]
    for number in range(rows):
        toxic = number % 3 == 0
        lines.append(f"{chooser.choice(RUDE if toxic else CALM)} {chooser.randrange(10**9):x} {number},{int(toxic)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def two_sets(folder: Path, **second: Any) -> tuple[LabelledSet, ...]:
    labels = {"label_field": "label", "toxic": ("1",)}
    one = LabelledSet(name="one", path=write_set(folder / "one.csv", 1), **labels)
    return one, LabelledSet(name="two", path=write_set(folder / "two.csv", 2), **{**labels, **second})


def test_weights_and_card_are_written_and_both_scores_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainToxicityConfig(sets=two_sets(tmp_path, train=False), resamples=100)
    metrics = train_toxicity(config, out=tmp_path / "out")
    card = json.loads((tmp_path / "out" / "card" / "card.json").read_text())
    scores = card["auroc with 95% interval"]
    assert set(scores["one"]) == {"in domain"}, "without it there is nothing that could be trained on"
    assert set(scores["two"]) == {"out of domain"}
    assert metrics["auroc.out_of_domain.two"] == scores["two"]["out of domain"][0] > 0.9
    assert (
        metrics["in"] == 120 == metrics["kept"] + sum(v for name, v in metrics.items() if name.startswith("dropped."))
    )
    told = capsys.readouterr().err
    assert "one: AUROC in domain" in told and "two: AUROC in domain not measured, AUROC out of domain" in told
    classifier = load_classifier(tmp_path / "out" / "weights" / WEIGHTS.name)
    assert classifier.score(RUDE[0]) > classifier.score(CALM[0])


def test_with_two_trained_sets_each_is_also_scored_by_a_classifier_without_it(tmp_path: Path) -> None:
    sets = two_sets(tmp_path)
    both = train_toxicity(TrainToxicityConfig(sets=sets, resamples=100), out=tmp_path / "both")
    apart = (sets[0], sets[1].model_copy(update={"train": False}))
    alone = train_toxicity(TrainToxicityConfig(sets=apart, resamples=100), out=tmp_path / "alone")
    assert both["auroc.out_of_domain.two"] == alone["auroc.out_of_domain.two"]
    assert {"auroc.in_domain.one", "auroc.in_domain.two", "auroc.out_of_domain.one"} <= set(both)


def test_the_same_config_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    sets = two_sets(tmp_path)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train_toxicity(TrainToxicityConfig(sets=sets, resamples=100, seed=seed), out=tmp_path / name)
    one, same, other = ((tmp_path / name / "weights" / WEIGHTS.name).read_bytes() for name in "abc")
    assert one == same != other
    assert (tmp_path / "a/card/card.json").read_bytes() == (tmp_path / "b/card/card.json").read_bytes()


def test_every_row_is_a_text_or_is_counted_with_a_reason(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(
        "text,label\nfine words here,0\nFine  words here!,0\n!!,1\nbad fool,1\nno label\n"
    )
    part = LabelledSet(name="rows", path=tmp_path / "rows.csv", label_field="label", toxic=("1",))
    counts: Counter[str] = Counter()
    texts = read_labelled(part, set(), counts)
    assert [tuple(found) for found in texts] == [("fine words here", False), ("bad fool", True)]
    dropped = {name: count for name, count in counts.items() if name.startswith("dropped.") and count}
    assert dropped == {"dropped.duplicate": 1, "dropped.no_text": 1, "dropped.no_label": 1}
    assert counts["in"] == len(texts) + sum(dropped.values())


def test_a_text_of_another_set_is_not_met_again(tmp_path: Path) -> None:
    one, two = two_sets(tmp_path)
    seen: set[bytes] = set()
    read_labelled(one, seen, Counter())
    again = two.model_copy(update={"path": one.path})
    with pytest.raises(UserError, match="'two' has no text that is"):
        read_labelled(again, seen, Counter())


def test_spans_make_the_sentences_toxic_that_they_touch(tmp_path: Path) -> None:
    text = "This is a calm first sentence. You are a complete idiot, sir. And a calm last one here."
    place = text.index("idiot")
    row = {"text": text, "spans": list(range(place, place + 5))}
    with gzip.open(tmp_path / "spans.jsonl.gz", "wt") as file:
        file.write(json.dumps(row) + "\n" + json.dumps({"text": "A row without any spans, which is dropped."}) + "\n")
    part = LabelledSet(
        name="spans", path=tmp_path / "spans.jsonl.gz", format="jsonl", spans_field="spans", sentences=True
    )
    counts: Counter[str] = Counter()
    assert [found.toxic for found in read_labelled(part, set(), counts)] == [False, True, False]
    assert counts["dropped.no_label"] == 1


@pytest.mark.parametrize(
    ("name", "content", "format", "message"),
    [
        ("cut.csv.xz", lzma.compress(b"text,label\nmany words,1\n" * 99)[:-20], "csv", "cannot be read as csv"),
        ("cut.csv.gz", gzip.compress(b"text,label\nmany words,1\n" * 99)[:-9], "csv", "cannot be read as csv"),
        ("not.csv.gz", b"plain", "csv", "cannot be read as csv"),
        ("columns.csv", b"words,class\na,1\n", "csv", "no column 'label'"),
        ("empty.csv", b"", "csv", "no column"),
        ("bad.jsonl", b"{nope\n", "jsonl", "cannot be read as jsonl"),
        ("deep.jsonl", b"[" * 100_000 + b"\n", "jsonl", "cannot be read as jsonl"),
        ("list.jsonl", b"[1]\n", "jsonl", "no JSON object"),
        ("long.jsonl", b"x" * (MAX_LINE + 5), "jsonl", "characters or more"),
        ("field.csv", b'text,label\n"' + b"x" * 200_000 + b'",1\n', "csv", "field larger"),
        ("one.csv", b"text,label\nwords,0\n", "csv", "no text that is toxic"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_in_one_line(
    name: str, content: bytes, format: str, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    part = LabelledSet(name="bad", path=tmp_path / name, format=format, label_field="label", toxic=("1",))
    with pytest.raises(UserError, match=message) as caught:
        read_labelled(part, set(), Counter())
    assert "bad" in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_a_classifier_without_a_score_out_of_domain_is_not_trained(tmp_path: Path) -> None:
    one, two = two_sets(tmp_path)
    with pytest.raises(ValidationError, match="two with labels"):
        TrainToxicityConfig(sets=(one,))
    with pytest.raises(ValidationError, match="one of them trained on"):
        TrainToxicityConfig(sets=tuple(part.model_copy(update={"train": False}) for part in (one, two)))
    with pytest.raises(ValidationError, match="names two sets"):
        TrainToxicityConfig(sets=(one, one))


def test_moved_files_are_the_same_input_and_a_changed_byte_is_not(tmp_path: Path, store: Store) -> None:
    def pin(sets: tuple[LabelledSet, ...]) -> object:
        config = TrainToxicityConfig(sets=sets)
        return key_module.key_of(key_module.identity_of(TRAIN_TOXICITY, config, {}, store.pins))

    sets = two_sets(tmp_path)
    before = pin(sets)
    (tmp_path / "moved").mkdir()
    sets[1].path.rename(tmp_path / "moved" / "two.csv")
    moved = (sets[0], sets[1].model_copy(update={"path": tmp_path / "moved" / "two.csv"}))
    assert pin(moved) == before
    (tmp_path / "moved" / "two.csv").write_text((tmp_path / "moved" / "two.csv").read_text() + "one more,1\n")
    assert pin(moved) != before


def test_every_field_of_a_set_but_its_place_is_identity(tmp_path: Path) -> None:
    one, _ = two_sets(tmp_path)
    assert set(one.identity()) == set(LabelledSet.model_fields) - {"path"}
    (part,) = TrainToxicityConfig(sets=two_sets(tmp_path)).identity()["sets"][:1]
    assert part == one.identity()


def test_annotate_takes_the_trained_classifier_in_place_of_the_shipped_one(tmp_path: Path, store: Store) -> None:
    sets = [part.model_dump() for part in two_sets(tmp_path)]
    recipe = with_settings(smoke(), {"train_toxicity": {"sets": sets, "resamples": 100}})
    planner = Planner(store)
    prepare_corpus(recipe, planner)
    rows = {row.node: row for row in planner.rows}
    assert rows["train_toxicity"].state == "miss" and "train_toxicity" in rows["annotate"].needs
    planner = Planner(store)
    prepare_corpus(smoke(), planner)
    assert "train_toxicity" not in {row.node for row in planner.rows}

    built = LocalRun(store)(TRAIN_TOXICITY, recipe.train_toxicity)
    source = write_parts(tmp_path / "in", [[RUDE[0], CALM[0]]])
    for name, weights in (("shipped", None), ("trained", built["weights"].path)):
        annotate(AnnotateConfig(), documents=source, classifier=weights, out=tmp_path / name)
    shipped, trained = (
        [document.metadata["toxicity_score"] for document in read_documents(tmp_path / name / "documents")]
        for name in ("shipped", "trained")
    )
    own = load_classifier(built["weights"].path / WEIGHTS.name)
    assert trained == [own.score(RUDE[0]), own.score(CALM[0])] != shipped


def test_training_without_scikit_learn_says_what_to_install(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = key_module.metadata.version

    def version(name: str) -> str:
        if name == "scikit-learn":
            raise key_module.metadata.PackageNotFoundError(name)
        return known(name)

    key_module.library_version.cache_clear()
    monkeypatch.setattr(key_module.metadata, "version", version)
    with pytest.raises(UserError, match="scikit-learn"):
        LocalRun(store)(TRAIN_TOXICITY, TrainToxicityConfig(sets=two_sets(tmp_path)))
    key_module.library_version.cache_clear()


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=2, max_size=50))
def test_auroc_is_scikit_learns(rows: list[tuple[bool, int]]) -> None:
    toxic = np.array([label for label, _ in rows], np.int64)
    if 0 < toxic.sum() < len(rows):
        ranks = np.unique([score for _, score in rows], return_inverse=True)[1]
        expected = roc_auc_score(toxic, [score for _, score in rows])
        assert auroc(toxic, ranks, np.ones_like(toxic)) == pytest.approx(expected)


def test_the_interval_covers_the_truth_about_as_often_as_it_says() -> None:
    drawn = np.random.default_rng(7)
    covered = 0
    for seed in range(40):  # two normals one deviation apart: AUROC = Phi(1/sqrt(2)) = .7602
        toxic = np.repeat([0, 1], 60)
        config = TrainToxicityConfig(resamples=100, seed=seed)
        _, low, high = auroc_interval(toxic, drawn.normal(size=120) + toxic, config)
        covered += low <= 0.7602 <= high
    assert 34 <= covered <= 40


@pytest.mark.slow
def test_the_shipped_weights_are_what_the_stage_makes_of_the_config_in_their_card(
    shared_data: Path, tmp_path: Path
) -> None:
    card = json.loads((HERE / "toxicity_card.json").read_text(encoding="utf-8"))
    config = TrainToxicityConfig(sets=tuple(labelled_set(name, shared_data) for name in SETS))
    assert json.loads(json.dumps(config.identity())) == card["config"]
    train_toxicity(config, out=tmp_path)
    assert json.loads((tmp_path / "card" / "card.json").read_text())["sources"] == card["sources"]
    made, shipped = load_classifier(tmp_path / "weights" / WEIGHTS.name), load_classifier()
    assert np.abs(made.weights.astype(int) - shipped.weights).max() <= 1  # the last bit may differ between processors
