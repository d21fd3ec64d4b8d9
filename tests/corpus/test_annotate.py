"""The annotate stage: every document comes out once, in order, with true scores; a killed run goes on where it was."""

import shutil
import tarfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datatrove.data import Document
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipelines.artifacts.errors import StageFailed
from pipelines.artifacts.pins import file_digest
from pipelines.artifacts.work import PROGRESS, read_progress
from pipelines.corpus.annotate import ANNOTATE, AnnotateConfig, annotate
from pipelines.corpus.annotation import ANNOTATED, Annotator
from pipelines.corpus.documents import PROVENANCE, part_name, parts, read_documents, to_document, write_documents

TEXTS = [
    "The committee met in the morning and discussed the budget. Write to anna@uni-a.ac.uk with questions.",
    "",
    "\x00",
    "\ufffd" * 2000,
    "a" + "\u0301" * 3000,
    "word " * 1000,
    "x" * 300_000,
    "Das ist ein deutscher Satz, den man leicht erkennt.\nUnd noch einer.",
]


def write_parts(folder: Path, groups: list[list[str]]) -> Path:
    """Write a documents output with one part a group and return its folder."""
    for number, texts in enumerate(groups):
        rows = [
            Document(
                text=text,
                id=f"{number}-{place}",
                metadata={"url": f"https://a.example/{place}", "source_uri": "a", "record_offset": place}
                | {"record_digest": "sha256:0", "crawl_time": "2000-01-01T00:00:00Z"},
            )
            for place, text in enumerate(texts)
        ]
        write_documents(folder / "documents" / part_name(number), folder, PROVENANCE, rows)
    return folder / "documents"


def rows_of(documents: Path) -> list[dict[str, object]]:
    return [row for part in parts(documents) for row in pq.read_table(part).to_pylist()]


def test_no_document_is_dropped_and_order_text_and_provenance_stay(tmp_path: Path) -> None:
    source = write_parts(tmp_path / "in", [TEXTS, [], TEXTS[:2]])
    metrics = annotate(AnnotateConfig(), documents=source, out=tmp_path / "out")
    assert metrics == {"in": 10.0, "kept": 10.0}
    written = tmp_path / "out" / "documents"
    assert [part.name for part in parts(written)] == [part.name for part in parts(source)]
    given_rows, rows = rows_of(source), rows_of(written)
    assert [{name: row[name] for name in PROVENANCE.names} for row in rows] == given_rows
    assert all(pq.read_schema(part).equals(ANNOTATED) for part in parts(written))


def test_scores_say_what_a_text_is(tmp_path: Path) -> None:
    annotate(AnnotateConfig(), documents=write_parts(tmp_path / "in", [TEXTS]), out=tmp_path / "out")
    english, empty, *_, repeated, huge, german = rows_of(tmp_path / "out" / "documents")
    assert (english["language"], german["language"], empty["language"]) == ("en", "de", "und")
    assert english["pii"] == [{"kind": "email", "start": 68, "end": 84}]
    assert english["c4_sentences"] == 2
    assert repeated["top_2_gram_char_ratio"] > 0.9
    assert (repeated["words"], huge["words"], empty["words"]) == (1000, 1, 0)
    assert huge["mean_word_length"] == 300_000


def test_the_same_bytes_come_from_any_number_of_workers(tmp_path: Path) -> None:
    source = write_parts(tmp_path / "in", [TEXTS, TEXTS[:3], TEXTS[3:]])
    outs = []
    for workers in (1, 2):
        outs.append(tmp_path / f"out{workers}")
        annotate(AnnotateConfig(workers=workers), documents=source, out=outs[-1])
    one, two = ([file_digest(part) for part in parts(out / "documents")] for out in outs)
    assert one == two
    assert AnnotateConfig(workers=1).identity() == AnnotateConfig(workers=2).identity()


def test_a_rerun_goes_on_after_the_finished_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_parts(tmp_path / "in", [TEXTS[:2], TEXTS[2:4], TEXTS[4:]])
    annotate(AnnotateConfig(), documents=source, out=tmp_path / "whole")
    whole = Annotator.__call__

    def cut_short(self: Annotator, index: int) -> dict[str, int]:
        if index == 1:
            raise OSError("the disk is full")
        return whole(self, index)

    with monkeypatch.context() as patch, pytest.raises(StageFailed, match="annotate: shard 1"):
        patch.setattr(Annotator, "__call__", cut_short)
        annotate(AnnotateConfig(), documents=source, out=tmp_path / "cut")
    progress = read_progress(tmp_path / "cut")
    assert progress is not None
    assert progress.done == 2, "the shard after the failed one is done as well"
    first = (tmp_path / "cut" / "documents" / part_name(0)).stat().st_mtime_ns
    assert annotate(AnnotateConfig(), documents=source, out=tmp_path / "cut") == {"in": 8.0, "kept": 8.0}
    assert (tmp_path / "cut" / "documents" / part_name(0)).stat().st_mtime_ns == first
    whole_digests, cut_digests = (
        [file_digest(part) for part in parts(tmp_path / name / "documents")] for name in ("whole", "cut")
    )
    assert whole_digests == cut_digests
    shutil.rmtree(tmp_path / "cut" / PROGRESS)
    assert sorted(path.name for path in (tmp_path / "cut").iterdir()) == ["documents"]


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=80), max_size=6))
def test_any_texts_come_out_as_they_went_in(tmp_path: Path, texts: list[str]) -> None:
    folder = tmp_path / "case"
    shutil.rmtree(folder, ignore_errors=True)
    source = write_parts(folder / "in", [texts])
    metrics = annotate(AnnotateConfig(), documents=source, out=folder / "out")
    assert metrics["in"] == metrics["kept"] == len(texts)
    assert [document.text for document in read_documents(folder / "out" / "documents")] == texts


def test_real_prose_looks_like_prose(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "prose" / "english-novels.tar.xz") as archive:
        novel = next(member for member in archive if member.isfile() and member.name.endswith(".txt"))
        content = archive.extractfile(novel)
        assert content is not None
        text = content.read().decode(errors="replace")
    pieces = [text[start : start + 3000] for start in range(10_000, 70_000, 3000)]
    annotate(AnnotateConfig(), documents=write_parts(tmp_path / "in", [pieces]), out=tmp_path / "out")
    for row in rows_of(tmp_path / "out" / "documents"):
        assert row["language"] == "en"
        assert 400 < row["words"] < 800
        assert 3.5 < row["mean_word_length"] < 5.5
        assert row["stop_words"] >= 6


def test_the_stage_is_resumable_and_named_after_its_module() -> None:
    assert ANNOTATE.name == "annotate"
    assert ANNOTATE.resumable
    assert ANNOTATE.config is AnnotateConfig


def test_rows_read_back_are_documents(tmp_path: Path) -> None:
    annotate(AnnotateConfig(), documents=write_parts(tmp_path / "in", [TEXTS[:1]]), out=tmp_path / "out")
    (row,) = rows_of(tmp_path / "out" / "documents")
    document = to_document(dict(row))
    assert document.text == TEXTS[0]
    assert document.metadata["language"] == "en"
