"""The audit: every document is counted once on every axis, whatever the parts and workers, in bounded memory."""

import json
import random
import shutil
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datatrove.data import Document
from hypothesis import given
from hypothesis import strategies as st

from pipelines.artifacts.errors import StageFailed
from pipelines.corpus.annotate import AnnotateConfig, annotate
from pipelines.corpus.audit import AUDIT, AuditConfig, audit
from pipelines.corpus.auditing.counting import Auditor, domain_of, group_row
from pipelines.corpus.auditing.frequent import Frequent
from pipelines.corpus.auditing.mentions import ANY, LEXICON, mentioned, read_lexicon
from pipelines.corpus.documents import PROVENANCE, part_name, write_documents
from pipelines.reporting.html import render
from tests.corpus.test_annotate import write_parts


def row(text: str, url: str = "https://a.example/1", crawl_time: str | None = "2023-07-01T00:00:00Z") -> Document:
    provenance = {"source_uri": "a", "record_offset": 0, "record_digest": "sha256:0"}
    return Document(text=text, id=text[:20], metadata={"url": url, "crawl_time": crawl_time, **provenance})


def write(folder: Path, groups: list[list[Document]]) -> Path:
    for number, rows in enumerate(groups):
        write_documents(folder / "documents" / part_name(number), folder, PROVENANCE, rows)
    return folder / "documents"


def audited(documents: Path, out: Path, **config: Any) -> dict[str, Any]:
    audit(AuditConfig(**config), documents=documents, out=out)
    facts = json.loads((out / "audit" / "audit.json").read_text(encoding="utf-8"))
    assert isinstance(facts, dict)
    return facts


ROWS = [
    row("The women were kind and brave. " * 3),
    row("Some men were cruel and violent.", url="http://www.B.example:8080/x", crawl_time="2023-08-02T00:00:00Z"),
    row("", url="", crawl_time=None),
    row("x" * 1024, url="http://[broken", crawl_time="yesterday"),
    row("Plain words of no kind.", url="https://b.example./y", crawl_time="1999-13-01"),
]


def test_languages_domains_dates_and_lengths_count_every_document_once(tmp_path: Path) -> None:
    facts = audited(write(tmp_path / "in", [ROWS[:2], [], ROWS[2:]]), tmp_path / "out")
    assert facts["documents"] == 5 and facts["characters"] == sum(len(item.text) for item in ROWS)
    assert facts["languages"] == [], "documents that annotate has not seen"
    assert facts["domains"]["top"] == [
        {"domain": "b.example", "documents": 2},
        {"domain": "a.example", "documents": 1},
    ]
    assert facts["domains"]["documents_without"] == 2
    assert facts["domains"]["undercounted_by_at_most"] == 0
    assert facts["dates"] == [
        {"month": "2023-07", "documents": 1},
        {"month": "2023-08", "documents": 1},
        {"month": "unknown", "documents": 3},
    ]
    assert {"from": 0, "below": 1, "documents": 1} in facts["lengths"]
    assert {"from": 1024, "below": 2048, "documents": 1} in facts["lengths"]
    assert sum(found["documents"] for found in facts["lengths"]) == 5
    women, men = facts["groups"]["rows"]
    assert (women["group"], women["documents"], women["mentions"], women["sentiment"]) == ("women", 1, 3, 1.0)
    assert (men["group"], men["sentiment"], men["low"]) == ("men", -1.0, None)
    assert facts["groups"]["documents_searched"] == 5


def test_languages_come_from_annotate_and_groups_are_looked_for_in_english_alone(tmp_path: Path) -> None:
    german = "Die Muslim und die anderen gingen am Morgen in die Stadt und kauften dort das Brot. "
    english = "The committee met in the morning and she discussed the budget of the library. "
    annotate(AnnotateConfig(), documents=write_parts(tmp_path / "in", [[german * 3, english * 3]]), out=tmp_path / "a")
    facts = audited(tmp_path / "a" / "documents", tmp_path / "out")
    assert {found["language"]: found["documents"] for found in facts["languages"]} == {"de": 1, "en": 1}
    assert facts["groups"]["documents_searched"] == 1
    assert [found["group"] for found in facts["groups"]["rows"]] == ["women"]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_same_bytes_come_from_any_number_of_workers(workers: int, tmp_path: Path) -> None:
    source = write(tmp_path / "in", [ROWS, ROWS[:2], ROWS[3:]])
    audit(AuditConfig(workers=workers), documents=source, out=tmp_path / "out")
    audit(AuditConfig(workers=1), documents=source, out=tmp_path / "one")
    assert (tmp_path / "out/audit/audit.json").read_bytes() == (tmp_path / "one/audit/audit.json").read_bytes()
    assert AuditConfig(workers=workers).identity() == AuditConfig().identity()


def test_a_killed_audit_goes_on_after_the_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "in", [ROWS, ROWS[:2], ROWS[3:]])
    whole = Auditor.__call__

    def cut_short(self: Auditor, index: int) -> dict[str, int]:
        if index == 2:
            raise OSError("the disk is full")
        return whole(self, index)

    with monkeypatch.context() as patch, pytest.raises(StageFailed, match="audit: shard 2"):
        patch.setattr(Auditor, "__call__", cut_short)
        audit(AuditConfig(), documents=source, out=tmp_path / "out")
    assert audited(source, tmp_path / "out") == audited(source, tmp_path / "again")
    assert AUDIT.resumable


def test_more_domains_than_are_counted_at_once_stay_within_the_stated_error(tmp_path: Path) -> None:
    chooser = random.Random(0)
    urls = [f"https://big{chooser.randrange(3)}.example/" for _ in range(1500)]
    urls += [f"https://small{number}.example/" for number in range(2500)]
    chooser.shuffle(urls)
    rows = [row("text", url=url) for url in urls]
    facts = audited(write(tmp_path / "in", [rows[:1800], rows[1800:]]), tmp_path / "out", max_domains=1000, top=3)
    truth = Counter(map(domain_of, urls))
    lost = facts["domains"]["undercounted_by_at_most"]
    assert 0 < lost <= len(urls) / 1001 * 2
    assert facts["domains"]["counted"] <= 1000
    for found in facts["domains"]["top"]:
        assert found["domain"].startswith("big")
        assert truth[found["domain"]] - lost <= found["documents"] <= truth[found["domain"]]


@given(st.lists(st.lists(st.sampled_from("abcdefghij"), max_size=40), max_size=5), st.integers(1, 12))
def test_merged_counts_keep_their_promise(parts: list[list[str]], capacity: int) -> None:
    total = Frequent(capacity)
    for part in parts:
        own = Frequent(capacity)
        for thing in part:
            own.add(thing)
        total.merge(Frequent(**json.loads(json.dumps(own.as_json()))))
    truth = Counter(thing for part in parts for thing in part)
    assert len(total.counts) <= capacity
    assert total.lost <= truth.total() / (capacity + 1)
    for thing, count in truth.items():
        assert count - total.lost <= total.counts[thing] <= count


def test_a_mention_is_a_whole_word_or_pair_and_its_context_a_window() -> None:
    names = {name: place for place, (_, name) in enumerate(read_lexicon().groups)}
    assert mentioned("A black cat, a shebang and a human", 10) == {}
    assert mentioned("Two BLACK WOMEN won an award", 10)[names["Black"]] == (1, 1.0)
    assert names["women"] in mentioned("Two black women won an award", 10), "a pair may name two groups"
    far = "good " + "word " * 5 + "women " + "word " * 5 + "bad"
    assert mentioned(far, 5)[names["women"]] == (1, 0.0)
    assert mentioned(far.removesuffix("bad"), 6)[names["women"]] == (1, 1.0)
    assert mentioned("women are not bad and never cruel", 10)[names["women"]] == (1, 1.0)
    assert mentioned("women are honest people and men are violent", 2)[names["men"]] == (1, -1.0)


def test_any_word_is_sampled_to_compare_with() -> None:
    assert mentioned("good " * 250, 10)[-1] == (2, 1.0)


def test_the_interval_is_over_documents() -> None:
    values = [1.0, -1.0, 0.5, 0.0] * 10
    found = group_row("axis", "group", [40, 90, sum(values), sum(value * value for value in values)])
    assert found["sentiment"] == 0.125 and found["low"] < 0.125 < found["high"]
    assert found["high"] - found["low"] == pytest.approx(2 * 1.959964 * np.std(values, ddof=1) / 40**0.5, abs=1e-3)
    few = group_row("axis", "group", [29, 40, 0.0, 0.0])
    assert (few["sentiment"], few["low"], few["high"]) == (0.0, None, None), "not certain, but too few to say"
    assert group_row("", ANY, [0, 0, 0.0, 0.0])["sentiment"] is None


def test_the_lexicon_is_our_own_and_says_so() -> None:
    held = json.loads(LEXICON.read_text(encoding="utf-8"))
    assert "Apache-2.0" in held["licence"] and held["explanation"]
    assert not set(held["positive"]) & set(held["negative"])
    terms = [term for axis in held["axes"] for group in axis["groups"] for term in group["terms"]]
    assert len(terms) == len(set(terms)), "a term belongs to one group"
    for term in [*terms, *held["positive"], *held["negative"], *held["negators"]]:
        assert term == term.lower() and len(term.split()) <= 2 and term.strip()


@given(st.text(max_size=300))
def test_any_text_is_read(text: str) -> None:
    for count, mean in mentioned(text, 10).values():
        assert count > 0 and -1 <= mean <= 1


@pytest.mark.parametrize("url", ["", "no url", "http://", "http://[::1]:80/", "HTTP://WWW.A.example", "//" + "a" * 999])
def test_any_url_has_a_domain_or_none(url: str) -> None:
    assert len(domain_of(url)) <= 253


def test_the_report_shows_the_audit(tmp_path: Path) -> None:
    facts = audited(write(tmp_path / "in", [ROWS * 30]), tmp_path / "out")
    empty: dict[str, Any] = {
        "title": "t",
        "funnel": [],
        "duplicates": {},
        "dropped": {},
        "tokenizer": {},
        "tokens": [],
        "curves": {},
        "scores": [],
        "samples": {},
        "bundle": {},
    }
    page = render(empty | {"audit": facts}, [])
    for piece in ("b.example", "2023", "unknown", "gender: women", "Mentions of groups of people", "1,024 to 2,047"):
        assert piece in page, piece
    assert page.count("<svg") == 1
    assert "Mentions of groups" not in render(empty | {"audit": {}}, [])


def test_real_novels_mention_men_more_often_than_women(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "prose" / "english-novels.tar.xz") as archive:
        novel = next(member for member in archive if member.isfile() and member.name.endswith(".txt"))
        content = archive.extractfile(novel)
        assert content is not None
        text = content.read().decode(errors="replace")
    rows = [row(text[start : start + 3000]) for start in range(0, 300_000, 3000)]
    facts = audited(write(tmp_path / "in", [rows]), tmp_path / "out")
    found = {item["group"]: item for item in facts["groups"]["rows"]}
    assert found["women"]["documents"] > 30 and found["men"]["documents"] > 30
    assert found["men"]["low"] <= found["men"]["sentiment"] <= found["men"]["high"]
    shutil.rmtree(tmp_path / "in")
