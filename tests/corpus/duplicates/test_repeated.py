from pathlib import Path

import pyarrow.parquet as pq
import pytest

from pipelines.artifacts.errors import EmptyOutput
from pipelines.corpus.dedup import DedupConfig, RepeatedConfig, dedup
from pipelines.corpus.documents import read_documents
from tests.corpus.test_dedup import identified, prose, write


def run(folder: Path, texts: list[str], per_part: int = 10_000, **settings: object) -> dict[str, float]:
    write(folder / "in", identified(texts), per_part)
    repeated = RepeatedConfig(**settings)  # type: ignore[arg-type]
    return dedup(DedupConfig(repeated=repeated), documents=folder / "in", out=folder / "out")


def texts(folder: Path) -> list[str]:
    return [document.text for document in read_documents(folder / "out" / "documents")]


def test_a_line_of_more_documents_than_allowed_stays_in_the_first_by_rank_only(tmp_path: Path) -> None:
    menu = "Home |  About"
    pages = [f"{menu}\n{prose(number, 30 + number)}\n\nbelow" for number in range(4)]
    metrics = run(tmp_path, pages, unit="lines", max_documents=3, min_chars=6)
    assert texts(tmp_path) == [page.removeprefix(f"{menu}\n") for page in pages[:3]] + pages[3:]
    assert metrics["cut.lines"] == 3
    assert metrics["cut.characters"] == 3 * len(menu)
    run(tmp_path / "allowed", pages, unit="lines", max_documents=4)
    assert texts(tmp_path / "allowed") == pages


def test_paragraphs_are_cut_whole_and_their_lines_stay(tmp_path: Path) -> None:
    notice = "All rights\nreserved."
    pages = [f"{prose(number, 30 + number)}\n \n{notice}\n\nreserved.\n{number}" for number in range(3)]
    metrics = run(tmp_path, pages, unit="paragraphs", max_documents=1)
    assert [text.count("reserved.") for text in texts(tmp_path)] == [1, 1, 2]
    assert metrics["cut.paragraphs"] == 2


def test_a_document_of_which_nothing_is_left_is_dropped_and_listed(tmp_path: Path) -> None:
    one, other, third = (prose(number, 40) for number in range(3))
    pages = [f"{one}\n{other}", f"{other}\n{third}", f"{third}\n{one}\n{prose(4)}", one]
    metrics = run(tmp_path, pages, unit="lines", max_documents=1)
    assert (
        metrics["in"]
        == metrics["kept"] + metrics["dropped.exact"] + metrics["dropped.near"] + metrics["dropped.repeated"]
    )
    assert metrics["dropped.repeated"] >= 1
    assert "".join(texts(tmp_path)).count(one) == 1
    rows = pq.read_table(tmp_path / "out" / "clusters" / "clusters.parquet").to_pylist()
    assert {row["id"] for row in rows if row["kind"] == "repeated"} >= {identified(pages)[3][0]}
    assert all(row["kept_id"] is None for row in rows if row["kind"] == "repeated")


def test_what_is_cut_depends_neither_on_order_nor_on_parts(tmp_path: Path) -> None:
    pages = [f"head {number % 3}\n{prose(number, 20 + number)}\nfoot {number % 2}" for number in range(12)]
    rows = identified(pages)
    repeated = RepeatedConfig(unit="lines", max_documents=2)
    found = []
    for name, order, per_part, workers in (("a", rows, 5, 1), ("b", rows[::-1], 12, 2)):
        write(tmp_path / name, order, per_part)
        config = DedupConfig(repeated=repeated, workers=workers)
        metrics = dedup(config, documents=tmp_path / name, out=tmp_path / f"{name}-out")
        kept = {document.id: document.text for document in read_documents(tmp_path / f"{name}-out" / "documents")}
        found.append((metrics, kept))
    assert found[0] == found[1]
    assert found[0][0]["cut.lines"] > 0


def test_duplicates_do_not_make_their_own_lines_repeated(tmp_path: Path) -> None:
    page = f"a line\n{prose(1)}"
    metrics = run(tmp_path, [page] * 20, unit="lines", max_documents=1)
    assert texts(tmp_path) == [page]
    assert (metrics["dropped.exact"], metrics["cut.lines"]) == (19, 0)


def test_with_no_document_there_is_nothing_to_cut(tmp_path: Path) -> None:
    with pytest.raises(EmptyOutput):
        run(tmp_path, [], unit="lines")
