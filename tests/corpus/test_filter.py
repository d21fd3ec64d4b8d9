"""The filter stage: thresholds over scores, the first failing rule as the counted reason, personal data replaced."""

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.pins import PinCache
from pipelines.artifacts.stage import Metrics
from pipelines.corpus.annotation import ANNOTATED, scores
from pipelines.corpus.block_list import BlockList
from pipelines.corpus.documents import part_name, parts, read_documents, write_documents
from pipelines.corpus.filter import (
    C4Rules,
    FilterConfig,
    FineWebRules,
    GopherRules,
    LanguageRules,
    RepetitionRules,
    ToxicityRules,
    UrlRules,
    filter,
)
from pipelines.corpus.filtering import DROPPED, first_failing, rules
from pipelines.corpus.samples import Samples

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
    fineweb=FineWebRules(min_punctuated_line_ratio=0, max_short_line_ratio=1, max_repeated_line_char_ratio=1),
)
OFF = RepetitionRules(**dict.fromkeys(RepetitionRules.model_fields, 1))
LOOSE = FilterConfig(gopher=ONLY_SHORT.gopher, repetition=OFF, c4=ONLY_SHORT.c4)
LOOSE_LINES = LOOSE.model_copy(update={"fineweb": ONLY_SHORT.fineweb})
"""Rules that leave FineWeb's the last word."""


def score(text: str) -> dict[str, Any]:
    return {"url": "https://a.example/1", **scores([text], 1000)[0]}


def write_scored(folder: Path, groups: list[list[str]]) -> Path:
    """Write an annotated documents output with one part a group and return its folder."""
    place = 0
    for number, texts in enumerate(groups):
        rows = []
        for text in texts:
            provenance = {"url": f"https://a.example/{place}", "source_uri": "a", "record_offset": place}
            provenance |= {"record_digest": f"sha256:{place}", "crawl_time": "2000-01-01T00:00:00Z"}
            rows.append(Document(text=text, id=f"{place:032x}", metadata=score(text) | provenance))
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
    assert order[:6] == ["url_domain", "url_pattern", "url_word", "empty", "language", "language_score"]
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
        "c4": {
            **{"min_sentences": 100, "min_line_ratio": 2, "min_paragraph_length": 1},
            **{"max_javascript_line_ratio": -1, "max_policy_line_ratio": -1},
        },
        "fineweb": {
            **{"min_punctuated_line_ratio": 2, "max_short_line_ratio": -1},
            **{"max_repeated_line_char_ratio": -1, "max_line_feed_word_ratio": -1},
        },
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


def test_the_other_rules_of_c4_and_those_of_fineweb_name_their_reasons() -> None:
    sentences = GOOD.split(". ")
    menu = "\n".join(f"{word} here" for word in dict.fromkeys(GOOD.split()[:24]))
    cases: list[tuple[str, FilterConfig, str]] = [
        (GOOD + "\n" + menu, FilterConfig(c4=C4Rules(min_line_ratio=0.5)), "c4_few_lines"),
        (
            GOOD + "\nPlease turn JavaScript on.",
            FilterConfig(c4=C4Rules(max_javascript_line_ratio=0.4)),
            "c4_javascript",
        ),
        (GOOD + "\nOur site uses cookies.", FilterConfig(c4=C4Rules(max_policy_line_ratio=0.4)), "c4_policy"),
        (GOOD, FilterConfig(c4=C4Rules(min_paragraph_length=200)), "c4_short_paragraphs"),
        (GOOD + "\n" + "\n".join(GOOD[:50] + f" {name}" for name in "abcdefghij"), LOOSE, "fineweb_punctuation"),
        (GOOD + "\nIt is so today." + "\nSo it was in May.\nNobody came.", FilterConfig(), "fineweb_short_lines"),
        (
            GOOD + f"\n{sentences[0]}.\nThat is all that we know of it so far.\n{sentences[0]}.",
            LOOSE,
            "fineweb_repeated_lines",
        ),
        (GOOD.replace(" ", "\n"), LOOSE_LINES, "fineweb_line_feeds"),
    ]
    for text, config, reason in cases:
        assert first_failing(rules(config), score(text)) == reason


def listed(tmp_path: Path, text: str) -> BlockList:
    (tmp_path / "list.txt").write_text(text, encoding="utf-8")
    return BlockList(UrlRules(path=tmp_path / "list.txt"))


def test_a_listed_domain_blocks_its_subdomains_and_no_other(tmp_path: Path) -> None:
    blocked = listed(tmp_path, "# bad sites\nBad.example.\n0.0.0.0 ads.example # a hosts file\n\nmünchen.example\n")
    for url in ("https://bad.example/x", "http://a.b.BAD.example:80", "ads.example/1", "//x.ads.example"):
        assert blocked.has_domain(url), url
    assert blocked.has_domain("https://www.xn--mnchen-3ya.example/") and blocked.has_domain("https://MÜNCHEN.example/")
    for url in ("https://notbad.example/", "https://example/", "https://a.example/bad.example", "", None, "http://[x"):
        assert not blocked.has_domain(url), url


def test_patterns_match_whole_addresses_and_words_stand_alone(tmp_path: Path) -> None:
    blocked = BlockList(UrlRules(patterns=("https://a.example/adult/*", "*.exe"), words=("Casino",)))
    assert blocked.has_pattern("http://a.example/adult/1?x=y") and blocked.has_pattern("https://b.example/x.EXE")
    assert not blocked.has_pattern("https://b.example/?u=a.example/adult/1")
    assert blocked.has_word("https://best-casino.example/") and not blocked.has_word("https://casinos.example/")
    assert listed(tmp_path, "a.example/[x]?*\n").has_pattern("http://a.example/[x]?y")
    assert not BlockList(UrlRules()).has_domain("https://a.example")


def test_a_pattern_of_many_stars_costs_linear_time() -> None:
    blocked = BlockList(UrlRules(patterns=("*a" * 200 + "b",)))
    assert not blocked.has_pattern("a" * 4_000)


@pytest.mark.parametrize("line", ["two words", "x" * 3000, "@", "user@host", "[v]"])
def test_a_line_that_is_no_entry_is_named(line: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"filter\.urls\.path: .*line 2: .* is no entry; write one domain"):
        listed(tmp_path, f"good.example\n{line}\n")


def test_a_list_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot be read"):
        BlockList(UrlRules(path=tmp_path / "none.txt"))
    (tmp_path / "latin.txt").write_bytes(b"m\xfcnchen.example\n")
    with pytest.raises(UserError, match="is not UTF-8"):
        BlockList(UrlRules(path=tmp_path / "latin.txt"))


def test_a_block_list_is_pinned_by_its_content_and_counts_what_it_drops(tmp_path: Path) -> None:
    paths = [tmp_path / "one" / "a.txt", tmp_path / "two" / "b.txt"]
    for path in paths:
        path.parent.mkdir()
        path.write_text("a.example/1\n")
    configs = [ONLY_SHORT.model_copy(update={"urls": UrlRules(path=path)}) for path in paths]
    pins = [config.roots()["urls.path"].pin(PinCache(tmp_path / "pins")) for config in configs]
    assert pins[0] == pins[1] and configs[0].identity() == configs[1].identity()
    paths[0].write_text("b.example\n")
    assert configs[0].roots()["urls.path"].pin(PinCache(tmp_path / "pins")) != pins[1]
    metrics, _ = run(tmp_path, [GOOD, GOOD, GOOD], configs[1])
    assert (metrics["kept"], metrics["dropped.url_pattern"]) == (2, 1)


def test_samples_show_dropped_documents_with_scores_and_without_personal_data(tmp_path: Path) -> None:
    texts = [f"{GOOD} Write to anna{number}@uni-a.ac.uk about number {number} {{x}} here." for number in range(30)]
    config = FilterConfig(samples=5, sample_characters=60 + len(GOOD))
    _, out = run(tmp_path, [GOOD, *texts, ""], config)
    rows = pq.read_table(out / "dropped" / "samples.parquet").to_pylist()
    assert [row["reason"] for row in rows] == ["empty", *["c4_curly_bracket"] * 5]
    hashes = [hashlib.sha256(f"{place:032x}".encode()).hexdigest() for place in range(1, 31)]
    assert [hashlib.sha256(row["id"].encode()).hexdigest() for row in rows[1:]] == sorted(hashes)[:5]
    assert all("<EMAIL>" in row["text"] and len(row["text"]) <= config.sample_characters for row in rows[1:])
    assert all(row["c4_curly_bracket"] and row["words"] > 50 for row in rows[1:])
    assert b"anna" not in (out / "dropped" / "samples.parquet").read_bytes()


def test_samples_do_not_depend_on_the_order_of_documents() -> None:
    documents = [Document(text=GOOD, id=f"{place:032x}", metadata=score(GOOD)) for place in range(50)]
    found = []
    for order in (documents, documents[::-1]):
        samples = Samples(7, 100)
        for document in order:
            samples.offer("empty", document)
        found.append(sorted(row[1] for row in samples._held["empty"]))
    assert found[0] == found[1] and len(found[0]) == 7
    none = Samples(0, 100)
    none.offer("empty", documents[0])
    assert none._held["empty"] == []


def test_an_address_with_personal_data_is_masked_in_the_samples() -> None:
    samples = Samples(1, 100)
    row = score(GOOD) | {"url": "https://a.example/?mail=anna@uni-a.ac.uk"}
    samples.offer("empty", Document(text=GOOD, id="1", metadata=row))
    assert "anna" not in samples._held["empty"][0][2]["url"]


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


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
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
