"""The filter stage: thresholds over scores, the first failing rule as the counted reason, personal data replaced."""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import EmptyOutput
from pipelines.artifacts.stage import Metrics
from pipelines.corpus.annotation import ANNOTATED, scores
from pipelines.corpus.documents import part_name, parts, read_documents, write_documents
from pipelines.corpus.filter import (
    C4Rules,
    FilterConfig,
    GopherRules,
    LanguageRules,
    ToxicityRules,
    filter,
)
from pipelines.corpus.filtering import DROPPED, first_failing, rules

GOOD = (
    "The committee met in the morning to discuss the budget of the library. Nobody had expected that the roof would "
    "have to be repaired so soon. A builder from the next village offered to do it within two weeks. His price was "
    "fair, and the members agreed with it after a short debate. The work will begin on the first day of May. Until "
    "then the reading room stays open, but visitors should bring a coat."
)
ONLY_SHORT = FilterConfig(
    language=LanguageRules(languages=(), min_score=0),
    gopher=GopherRules(min_words=3, min_mean_word_length=0, min_alpha_word_ratio=0, min_stop_words=0),
    c4=C4Rules(min_sentences=0),
)


def score(text: str) -> dict[str, Any]:
    return scores([text], 1000)[0]


def write_scored(folder: Path, groups: list[list[str]]) -> Path:
    """Write an annotated documents output with one part a group and return its folder."""
    place = 0
    for number, texts in enumerate(groups):
        rows = []
        for text in texts:
            provenance = {"url": f"https://a.example/{place}", "source_uri": "a", "record_offset": place}
            provenance |= {"record_digest": f"sha256:{place}", "crawl_time": "2000-01-01T00:00:00Z"}
            rows.append(Document(text=text, id=f"{place:032x}", metadata=provenance | score(text)))
            place += 1
        write_documents(folder / "documents" / part_name(number), folder, ANNOTATED, rows)
    return folder / "documents"


def run(tmp_path: Path, texts: list[str], config: FilterConfig) -> tuple[Metrics, Path]:
    source = write_scored(tmp_path / "in", [texts[:2], texts[2:]])
    return filter(config, documents=source, out=tmp_path / "out"), tmp_path / "out"


def test_the_defaults_keep_prose_and_name_why_they_drop_the_rest(tmp_path: Path) -> None:
    reasons = {
        "": "empty",
        "Das ist ein deutscher Satz, den jeder leicht als solchen erkennen kann. " * 9: "language",
        "The end of the story.": "gopher_too_few_words",
        "supercalifragilistic expialidocious of the establishmentarianism " * 20: "gopher_long_words",
        GOOD + " #" * 20: "gopher_hashes",
        "\n".join(["- the list of things that we have to do"] * 9): "gopher_bullet_lines",
        GOOD + "\n" + "\n".join(f"{number} of them..." for number in range(6)): "gopher_ellipsis_lines",
        GOOD + " 1 2 3 4" * 9: "gopher_words_without_letters",
        GOOD.replace(". ", "... ").replace(", ", "... ") + " So... it... is... done... now.": "gopher_ellipses",
        (GOOD + "\n\n") * 3: "gopher_duplicate_paragraph",
        GOOD + " Insert {name} here.": "c4_curly_bracket",
        GOOD.replace(".", ","): "c4_too_few_sentences",
        GOOD + " You stupid fucking idiot, shut up you dumb bitch and leave, you pathetic moron.": "toxicity_words",
    }
    metrics, out = run(tmp_path, [GOOD, *reasons], FilterConfig())
    dropped = pq.read_table(out / "dropped" / "dropped.parquet")
    assert dropped.schema.equals(DROPPED)
    assert dict(zip(reasons, dropped.column("reason").to_pylist(), strict=True)) == reasons
    assert [document.text for document in read_documents(out / "documents")] == [GOOD]
    assert metrics["in"] == 1 + len(reasons)
    assert metrics["kept"] == 1
    assert {name: metrics[f"dropped.{name}"] for name in reasons.values()} == dict.fromkeys(reasons.values(), 1)


def test_the_first_failing_rule_of_a_fixed_order_is_the_reason() -> None:
    order = [reason for reason, _ in rules(FilterConfig())]
    assert order[:4] == ["empty", "language", "language_score", "gopher_too_few_words"]
    assert order[-2:] == ["toxicity_words", "toxicity_score"]
    assert len(order) == len(set(order))
    assert first_failing(rules(FilterConfig()), score("Drei Worte nur {")) == "language"


def test_every_threshold_of_the_config_decides_something() -> None:
    base = FilterConfig()
    row = score(GOOD)
    assert first_failing(rules(base), row) is None
    extremes: dict[str, dict[str, Any]] = {
        "language": {"languages": ("fr",), "min_score": 1.0},
        "gopher": {
            **{"min_words": 1000, "max_words": 1, "min_mean_word_length": 9.0, "max_mean_word_length": 1.0},
            **{"max_symbol_word_ratio": -1, "max_bullet_line_ratio": -1, "max_ellipsis_line_ratio": -1},
            **{"min_alpha_word_ratio": 1.0, "min_stop_words": 9},
        },
        "repetition": dict.fromkeys(type(base.repetition).model_fields, -1),
        "c4": {"min_sentences": 100},
        "toxicity": {"max_hit_ratio": -1, "max_score": -1},
    }
    for section, fields in extremes.items():
        for name, value in fields.items():
            group = getattr(base, section).model_copy(update={name: value})
            changed = base.model_copy(update={section: group})
            assert first_failing(rules(changed), row), f"{section}.{name}"
    tested = {section: set(fields) for section, fields in extremes.items()}
    tested["c4"] |= {"drop_lorem_ipsum", "drop_curly_bracket"}
    assert tested == {section: set(type(getattr(base, section)).model_fields) for section in extremes}


def test_the_two_switches_of_c4_keep_what_they_would_drop() -> None:
    for text, switch in (
        (GOOD + " Insert {name} here.", "drop_curly_bracket"),
        (GOOD + " Lorem ipsum dolor.", "drop_lorem_ipsum"),
    ):
        assert first_failing(rules(FilterConfig()), score(text))
        assert first_failing(rules(FilterConfig(c4=C4Rules(**{switch: False}))), score(text)) is None


def test_personal_data_is_replaced_and_counted_while_provenance_stays(tmp_path: Path) -> None:
    text = GOOD + " Write to anna@uni-a.ac.uk or bob@uni-a.ac.uk, or call +44 20 7946 0958."
    metrics, out = run(tmp_path, [text], FilterConfig())
    (document,) = read_documents(out / "documents")
    assert document.text == GOOD + " Write to <EMAIL> or <EMAIL>, or call <PHONE>."
    assert document.id == f"{0:032x}"
    assert document.metadata["record_digest"] == "sha256:0"
    assert [document.text[span["start"] : span["end"]] for span in document.metadata["pii"]] == [
        *("<EMAIL>", "<EMAIL>", "<PHONE>"),
    ]
    assert {name: count for name, count in metrics.items() if name.startswith("pii.") and count} == {
        "pii.email": 2,
        "pii.phone": 1,
    }
    everything = b"".join(path.read_bytes() for path in out.rglob("*") if path.is_file())
    assert b"anna@" not in everything
    assert "anna@" not in json.dumps(metrics)


def test_personal_data_stays_where_replacing_is_off(tmp_path: Path) -> None:
    text = GOOD + " Write to anna@uni-a.ac.uk."
    metrics, out = run(tmp_path, [text], FilterConfig(replace_pii=False))
    assert next(read_documents(out / "documents")).text == text
    assert not any(name.startswith("pii.") for name in metrics)


def test_nothing_left_is_an_error_with_the_funnel(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutput, match=r"filter: no document is left \(in 2, .*empty 1, .*few_words 1"):
        run(tmp_path, ["", "The end of the story."], FilterConfig())
    with pytest.raises(EmptyOutput, match="filter: no document is left"):
        filter(FilterConfig(), documents=write_scored(tmp_path / "none", [[]]), out=tmp_path / "out2")


def test_toxic_text_is_dropped_by_words_or_by_score() -> None:
    insult = (
        GOOD + " You are a stupid worthless pathetic loser and a dumb ignorant fool, shut up and go away you trash."
    )
    strict = FilterConfig(toxicity=ToxicityRules(max_hit_ratio=1, max_score=0.5))
    assert first_failing(rules(strict), score(insult)) == "toxicity_score"
    assert first_failing(rules(strict), score(GOOD)) is None


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.text(st.characters(codec="utf-8"), max_size=60), st.sampled_from([GOOD, "mail a@b.org or 8.8.8.8"])
        ),
        max_size=8,
    )
)
def test_documents_in_are_those_kept_and_those_dropped(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str]
) -> None:
    folder = tmp_path_factory.mktemp("case")
    try:
        metrics, out = run(folder, [GOOD, *texts], ONLY_SHORT)
    except EmptyOutput:
        pytest.fail("the first document passes")
    dropped = {name: count for name, count in metrics.items() if name.startswith("dropped.")}
    assert metrics["in"] == 1 + len(texts) == metrics["kept"] + sum(dropped.values())
    rows = pq.read_table(out / "dropped" / "dropped.parquet").to_pylist()
    kept = [document.id for document in read_documents(out / "documents")]
    assert sorted(kept + [row["id"] for row in rows]) == [f"{place:032x}" for place in range(1 + len(texts))]
    assert sum(dropped.values()) == len(rows)
    assert [part.name for part in parts(out / "documents")] == [part_name(0), part_name(1)]
