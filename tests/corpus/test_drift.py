"""Whether new documents are drawn from where the old ones came from, measure by measure."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from datatrove.data import Document

from pipelines.artifacts.errors import EmptyOutput, StageFailed, UserError
from pipelines.corpus.documents import PROVENANCE, document_id, part_name, write_documents
from pipelines.corpus.drift import MEASURES, DriftConfig, drift
from pipelines.settings import with_settings
from tests.conftest import Finished

SCORED = pa.schema([*PROVENANCE, ("language", pa.string()), ("toxicity_score", pa.float64())])
CONFIG = DriftConfig()


def write(folder: Path, seed: int, count: int = 300, per_part: int = 1_000, **changes: Any) -> Path:
    """Write documents of one population, drawn by the seed; `changes` are functions of a generator."""
    rng = random.Random(seed)
    draw = {
        "language": lambda: rng.choices(("en", "fr"), (9, 1))[0],
        "source": lambda: rng.choice(("a.org", "b.org", "c.org")),
        "length": lambda: rng.randint(100, 2_000),
        "toxicity": lambda: rng.random() * 0.3,
        **{name: (lambda value=value: value(rng)) for name, value in changes.items()},
    }
    rows = [
        Document(
            text="x" * draw["length"](),
            id=document_id(f"sha256:{seed}", number),
            metadata={
                "url": f"https://{draw['source']()}/{number}",
                "source_uri": "crawl.jsonl",
                "record_offset": number,
                "record_digest": "sha256:0",
                "crawl_time": None,
                "language": draw["language"](),
                "toxicity_score": draw["toxicity"](),
            },
        )
        for number in range(count)
    ]
    for place in range(0, count, per_part):
        write_documents(folder / part_name(place // per_part), folder, SCORED, rows[place : place + per_part])
    return folder


def drifted(tmp_path: Path, config: DriftConfig = CONFIG, count: int = 300, **changes: Any) -> dict[str, float]:
    old, fresh = write(tmp_path / "old", 1), write(tmp_path / "fresh", 2, count, **changes)
    (tmp_path / "out").mkdir()
    return drift(config, fresh=fresh, old_0=old, out=tmp_path / "out")


def names(metrics: dict[str, float]) -> Iterable[str]:
    return {name.removesuffix(".drifted") for name, value in metrics.items() if name.endswith(".drifted") and value}


def rows(out: Path) -> dict[str, dict[str, Any]]:
    return {row["measure"]: row for row in json.loads((out / "drift" / "drift.json").read_text())["measures"]}


def test_two_draws_of_one_population_have_not_drifted(tmp_path: Path) -> None:
    found = drifted(tmp_path)
    assert not names(found) and found["stops"] == 0
    assert found["old"] == found["new"] == 300


@pytest.mark.parametrize(
    ("measure", "change"),
    [
        ("language", {"language": lambda rng: rng.choice(("en", "de"))}),
        ("source", {"source": lambda rng: "elsewhere.example"}),
        ("length", {"length": lambda rng: rng.randint(3_000, 4_000)}),
        ("toxicity", {"toxicity": lambda rng: rng.choice((0.1, 0.95))}),
    ],
)
def test_each_measure_drifts_alone_and_is_named_with_its_evidence(
    measure: str, change: dict[str, Any], tmp_path: Path
) -> None:
    found = drifted(tmp_path, **change)
    assert names(found) == {measure}
    row = rows(tmp_path / "out")[measure]
    assert row["effect"] > row["max_effect"] and row["p"] < row["alpha"]
    assert found["stops"] == (row["on_drift"] == "stop") == (measure in ("language", "toxicity"))
    assert row.keys() & {"changes", "quantiles", "new_share"}


def test_what_is_significant_and_small_is_no_drift_nor_what_is_large_by_chance(tmp_path: Path) -> None:
    config = with_settings(CONFIG, {"language.max_effect": 0.9, "length.max_effect": 0.0})
    found = drifted(tmp_path, config, language=lambda rng: rng.choice(("en", "de")))
    assert found["language.p"] < 0.001 and found["length.effect"] > 0
    assert not names(found)


def test_less_toxic_documents_are_no_drift(tmp_path: Path) -> None:
    old = write(tmp_path / "old", 1, toxicity=lambda rng: 0.9)
    fresh = write(tmp_path / "fresh", 2, toxicity=lambda rng: 0.0)
    (tmp_path / "out").mkdir()
    assert not names(drift(CONFIG, fresh=fresh, old_0=old, out=tmp_path / "out"))


def test_a_handful_of_toxic_documents_among_few_new_ones_stops_a_run(tmp_path: Path) -> None:
    places = iter(range(40))
    found = drifted(tmp_path, count=40, toxicity=lambda rng: 0.99 if next(places) < 6 else 0.1)
    assert found["toxicity.effect"] == pytest.approx(0.15) and found["stops"] == 1


def test_a_measure_that_only_warns_stops_nothing(tmp_path: Path) -> None:
    config = with_settings(CONFIG, {"toxicity.on_drift": "warn"})
    found = drifted(tmp_path, config, toxicity=lambda rng: 0.9)
    assert found["toxicity.drifted"] == 1 and found["stops"] == 0


def test_all_old_corpora_are_one_population_and_parts_do_not_matter(tmp_path: Path) -> None:
    one = write(tmp_path / "one", 1, language=lambda rng: "en")
    other = write(tmp_path / "other", 2, language=lambda rng: "fr")
    fresh = write(tmp_path / "fresh", 3, language=lambda rng: rng.choice(("en", "fr")))
    parted = write(tmp_path / "parted", 3, per_part=7, language=lambda rng: rng.choice(("en", "fr")))
    found = []
    for number, new in enumerate((fresh, parted)):
        out = tmp_path / f"out-{number}"
        out.mkdir()
        found.append(drift(CONFIG, fresh=new, old_0=one, old_1=other, out=out))
    assert found[0] == found[1] and not names(found[0])


def test_the_draw_of_a_large_corpus_is_bounded_and_fair(tmp_path: Path) -> None:
    places = iter(range(2_000))
    config = with_settings(CONFIG, {"documents": 200})
    found = drifted(tmp_path, config, count=2_000, length=lambda rng: 500 if next(places) < 1_000 else 1_500)
    assert found["new"] == 200
    shares = rows(tmp_path / "out")["length"]["quantiles"]
    assert shares[0]["new"] == 500 and shares[-1]["new"] == 1_500


def test_perplexity_under_the_model_tells_its_own_kind_of_text_from_noise(smoke_run: Finished, tmp_path: Path) -> None:
    from pipelines.tokens.shard import ShardConfig, shard

    model, shards = smoke_run.results["pretrain"].path, smoke_run.results["shard"].path
    rng = random.Random(1)
    noise = [Document(text="".join(rng.choices("qxzjkvw ", k=600)), id=document_id("n", n)) for n in range(60)]
    folder = tmp_path / "noise text"
    write_documents(folder / part_name(0), folder, pa.schema([("id", pa.string()), ("text", pa.string())]), noise)
    tokenizer = smoke_run.results["tokenizer"].path / "tokenizer"
    (tmp_path / "shards").mkdir()
    shard(ShardConfig(), documents=folder, tokenizer=tokenizer, out=tmp_path / "shards")
    given = {"old_0": write(tmp_path / "old", 1), "fresh": write(tmp_path / "fresh", 2), "model": model / "model"}
    found = {}
    for name, tokens in (("same", shards / "heldout"), ("noise", tmp_path / "shards" / "train")):
        (tmp_path / name).mkdir()
        found[name] = drift(CONFIG, **given, tokens=tokens, heldout_0=shards / "heldout", out=tmp_path / name)
    assert found["same"]["perplexity.effect"] == 0
    assert found["noise"]["perplexity.drifted"] == 1
    assert set(rows(tmp_path / "noise")) == set(MEASURES)


def test_no_documents_or_none_that_are_scored_is_said(tmp_path: Path) -> None:
    old = write(tmp_path / "old", 1)
    empty, plain = tmp_path / "empty", tmp_path / "plain"
    write_documents(empty / part_name(0), empty, SCORED, [])
    write_documents(plain / part_name(0), plain, PROVENANCE, [])
    with pytest.raises(EmptyOutput, match="new documents 0"):
        drift(CONFIG, fresh=empty, old_0=old, out=tmp_path)
    with pytest.raises(StageFailed, match="no column language; give documents that annotate has scored"):
        drift(CONFIG, fresh=plain, old_0=old, out=tmp_path)


def test_too_few_resamples_for_alpha_are_refused() -> None:
    with pytest.raises(UserError, match="resamples: 400 give no p-value below"):
        with_settings(CONFIG, {"resamples": 400})
