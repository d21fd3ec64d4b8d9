"""Every kind of file source through the stage: real files become documents with their provenance, and counts add up."""

import bz2
import gzip
import hashlib
import json
import os
import random
import tarfile
from importlib import metadata
from pathlib import Path

import pytest
import zstandard

from pipelines.artifacts.errors import EmptyOutput, UserError
from pipelines.artifacts.pins import PinCache
from pipelines.corpus.documents import document_id
from pipelines.corpus.ingest import IngestConfig
from pipelines.corpus.sources.byte_shards import shards_of
from pipelines.corpus.sources.kinds import EpubSource, HtmlSource, PdfSource, TextSource
from tests.corpus.readers.test_conversations import OPENAI, SHAREGPT, TOLD
from tests.corpus.readers.test_jats import DOCTYPE, PAPER, TEXT
from tests.corpus.readers.test_pdf import LINES
from tests.corpus.readers.test_wiki import DUMP, WANTED
from tests.corpus.sources_bench import PROSE, ingested, write_epub2, write_epub3, write_pdf


def installed(package: str, folder: Path, ending: str) -> int:
    """Link the files of an installed package that end so into `folder`; return how many."""
    paths = [path for path in metadata.files(package) or () if path.name.endswith(ending) and ".." not in path.parts]
    for path in paths:
        place = folder / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes(path.locate().read_bytes())  # type: ignore[attr-defined]  # a Path, where files lie unpacked
    return len(paths)


def test_html_directories_are_extracted_as_crawled_pages_are(shared_data: Path, tmp_path: Path) -> None:
    pages = tmp_path / "pages"
    with tarfile.open(shared_data / "extraction" / "article-extraction.tar.xz") as archive:
        members = [member for member in archive if member.name.endswith((".html", ".html.gz"))][:8]
        for number, member in enumerate(members):
            body = archive.extractfile(member).read()  # type: ignore[union-attr]
            (pages / str(number % 2)).mkdir(parents=True, exist_ok=True)
            body = gzip.decompress(body) if member.name.endswith(".gz") else body
            (pages / str(number % 2) / f"{number}.html").write_bytes(body)
    metrics, documents = ingested(pages, tmp_path / "out")
    assert metrics["kept"] == len(members) == 8
    assert len(list((tmp_path / "out" / "documents").iterdir())) == 1
    for document in documents:
        body = (pages / document.metadata["source_uri"]).read_bytes()
        digest = f"sha256:{hashlib.sha256(body).hexdigest()}"
        assert document.metadata["record_digest"] == digest
        assert document.id == document_id(digest, 0, document.metadata["source_uri"])
        assert "<div" not in document.text
    assert any(document.metadata["url"].startswith("http") for document in documents)


def test_plain_text_is_a_document_a_file(shared_data: Path, tmp_path: Path) -> None:
    with tarfile.open(shared_data / "prose" / "english-novels.tar.xz") as archive:
        novels = [member for member in (archive.next() for _ in range(4)) if member and member.isfile()][:2]
        for number, member in enumerate(novels):
            (tmp_path / f"{number}.txt").write_bytes(archive.extractfile(member).read())  # type: ignore[union-attr]
    (tmp_path / "a.md").write_text("# A note\n")
    metrics, documents = ingested(tmp_path, tmp_path.parent / f"{tmp_path.name}-out", max_text_bytes=5_000_000)
    assert metrics["kept"] == len(novels) + 1
    assert [document.metadata["source_uri"] for document in documents] == ["0.txt", "1.txt", "a.md"][: len(documents)]


@pytest.mark.parametrize(("name", "pack"), [("a.jsonl.gz", gzip.compress), ("a.jsonl.zst", zstandard.compress)])
def test_json_lines_are_read_from_gzip_and_zstd(tmp_path: Path, name: str, pack: type[bytes]) -> None:
    (tmp_path / name).write_bytes(pack(b"".join(b'{"text": "row %d"}\n' % number for number in range(5))))
    _, documents = ingested(tmp_path / name, tmp_path / "out")
    assert [document.text for document in documents] == [f"row {number}" for number in range(5)]


def test_conversations_are_told_from_json_lines_by_their_turns(tmp_path: Path) -> None:
    rows = [{"messages": OPENAI}, {"conversations": SHAREGPT}, {"messages": []}]
    (tmp_path / "chats.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    metrics, documents = ingested(tmp_path / "chats.jsonl", tmp_path / "out")
    assert [document.text for document in documents] == [TOLD, TOLD]
    assert metrics["dropped.empty"] == 1


def test_epub_books_are_read_with_their_licence(tmp_path: Path) -> None:
    books = tmp_path / "books"
    books.mkdir()
    write_epub2(books / "old.epub", {"1.xhtml": f"<html><body><p>{PROSE}</p></body></html>".encode()})
    write_epub3(books / "new.epub", "The Mill", {"One": f"<p>{PROSE}</p>"})
    _, documents = ingested(books, tmp_path / "out")
    assert [document.metadata["source_uri"] for document in documents] == ["new.epub", "old.epub"]
    assert [document.metadata["licence"] for document in documents] == ["", "CC-BY-SA-4.0"]
    assert all(PROSE.strip() in document.text for document in documents)


def test_pdf_papers_are_read_by_their_text_layer(tmp_path: Path) -> None:
    write_pdf(tmp_path / "a.pdf", [LINES])
    (tmp_path / "b.pdf").write_bytes(b"%PDF-1.4 cut")
    metrics, documents = ingested(tmp_path, tmp_path.parent / f"{tmp_path.name}-out")
    assert "no one asked him what the river thought of it" in documents[0].text
    assert metrics["dropped.damaged"] == 1


def test_jats_papers_are_told_from_other_xml_and_keep_their_licence(tmp_path: Path) -> None:
    (tmp_path / "PMC42.xml").write_bytes(DOCTYPE + PAPER)
    _, documents = ingested(tmp_path / "PMC42.xml", tmp_path / "out")
    assert [(document.text, document.metadata["licence"]) for document in documents] == [(TEXT, "CC-BY-4.0")]


def test_mediawiki_dumps_are_told_from_other_xml(tmp_path: Path) -> None:
    (tmp_path / "dewiki.xml.bz2").write_bytes(bz2.compress(DUMP))
    metrics, documents = ingested(tmp_path, tmp_path.parent / f"{tmp_path.name}-out")
    assert [document.text for document in documents] == [WANTED[0], WANTED[-1]]
    assert metrics["dropped.redirect"] == metrics["dropped.namespace"] == 1
    assert "licence" not in documents[0].metadata


def test_source_code_trees_keep_the_licence_of_each_file(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    count = installed("identify", tree, ".py")
    installed("identify", tree, "LICENSE")
    licence = next(tree.rglob("LICENSE"))
    licence.rename(tree / "identify" / "LICENSE")
    vendored = sum("vendor" in path.parts for path in tree.rglob("*.py"))
    assert vendored
    metrics, documents = ingested(f"code:{tree}", tmp_path / "out", max_page_bytes=10_000_000)
    assert metrics["in"] == count + 1
    assert (metrics["dropped.vendored"], metrics["dropped.licence_file"]) == (vendored, 1)
    assert len(documents) >= 3
    assert {document.metadata["licence"] for document in documents} == {"MIT"}
    for document in documents:
        assert document.text == (tree / document.metadata["source_uri"]).read_text()


def test_equal_files_are_documents_of_their_own(tmp_path: Path) -> None:
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text(PROSE)
    _, documents = ingested(tmp_path, tmp_path.parent / f"{tmp_path.name}-out")
    assert len({document.id for document in documents}) == 2


def test_small_files_share_parts_and_large_ones_do_not(tmp_path: Path) -> None:
    (tmp_path / "one.txt").write_text("x" * 100)
    source = TextSource(path=tmp_path)
    files = {f"{number}": tmp_path / "one.txt" for number in range(21)}
    assert [len(shard) for shard in shards_of(source, files, 1_000)] == [10, 10, 1]
    assert [len(shard) for shard in shards_of(source, dict.fromkeys("abc", tmp_path / "one.txt"), 60)] == [1, 1, 1]


def test_the_number_of_workers_changes_no_byte_of_any_part(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    write_pdf(tmp_path / "paper.pdf", [LINES])
    for number in range(8):  # whose parser runs in a child process of each worker
        (tmp_path / "in" / f"{number}.pdf").write_bytes((tmp_path / "paper.pdf").read_bytes())
    outs = [tmp_path / "one", tmp_path / "two"]
    three = 3 * (tmp_path / "paper.pdf").stat().st_size
    counts = [
        ingested(tmp_path / "in", out, workers=workers, shard_bytes=three)[0] for workers, out in enumerate(outs, 1)
    ]
    assert counts[0] == counts[1]
    assert len(list((outs[0] / "documents").iterdir())) == 3
    for part in (outs[0] / "documents").iterdir():
        assert part.read_bytes() == (outs[1] / "documents" / part.name).read_bytes()


def test_the_limit_of_documents_keeps_the_licences(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(4):
        write_epub2(tmp_path / "in" / f"{number}.epub", {"1.xhtml": f"<html><body>{PROSE}</body></html>".encode()})
    metrics, documents = ingested(
        tmp_path / "in",
        tmp_path / "out",
        max_documents=3,
        shard_bytes=2 * (tmp_path / "in" / "0.epub").stat().st_size + 10,
    )
    assert (metrics["kept"], metrics["dropped.over_limit"]) == (3, 1)
    assert {document.metadata["licence"] for document in documents} == {"CC-BY-SA-4.0"}


def test_names_that_are_no_utf_8_links_and_pipes_end_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"\xff.txt", b"-x.txt", "日本\N{GRINNING FACE}.txt".encode(), b"a" * 251 + b".txt"):
        (folder / os.fsdecode(name)).write_text(PROSE)
    (folder / "loop").symlink_to(folder)
    (folder / "round.txt").symlink_to(folder / "round.txt")
    (folder / "out.txt").symlink_to("/etc/passwd")
    os.mkfifo(folder / "pipe.txt")
    _, documents = ingested(folder, tmp_path / "out")
    assert len(documents) == 4
    assert "\\udcff.txt" in {document.metadata["source_uri"] for document in documents}


def test_the_store_inside_the_source_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text(PROSE)
    for source in (tmp_path, f"{tmp_path}/**/*.txt"):
        with pytest.raises(UserError, match="holds the store, which would read its own output"):
            ingested(source, tmp_path / "store" / ".work" / "ingest" / "key")
    ingested(f"{tmp_path}/*.txt", tmp_path / "store" / "out")
    ingested(tmp_path / "a.txt", tmp_path / "store" / "again")


def test_a_folder_whose_files_are_all_bad_is_no_green_run(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(b"no book")
    with pytest.raises(EmptyOutput, match="mislabelled 1"):
        ingested(tmp_path / "a.epub", tmp_path / "out")


def test_a_kind_whose_library_is_absent_names_the_extra(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    write_pdf(tmp_path / "a.pdf", [LINES])
    monkeypatch.setattr("pipelines.corpus.sources.base.metadata.version", version)
    with pytest.raises(
        UserError, match=r"kind 'pdf' needs the library 'pypdfium2'; run pip install 'gristmill\[papers\]'"
    ):
        IngestConfig.model_validate({"source": str(tmp_path / "a.pdf")}).roots()


def test_the_libraries_of_a_kind_enter_its_key_alone(tmp_path: Path) -> None:
    (tmp_path / "a.epub").write_bytes(b"")
    (tmp_path / "a.html").write_bytes(b"")
    pins = PinCache(tmp_path / "pins")
    book = {name: root.pin(pins) for name, root in EpubSource(path=tmp_path / "a.epub").roots().items()}
    assert book["library.lxml"] == f"lxml {metadata.version('lxml')}"
    assert set(HtmlSource(path=tmp_path / "a.html").roots()) == {"path"}
    assert set(PdfSource.libraries) == {"pypdfium2"}


def test_files_of_random_bytes_are_counted_by_every_kind(tmp_path: Path) -> None:
    rng = random.Random(3)
    names = ("html", "txt", "epub", "pdf", "xml", "xml.bz2", "jsonl", "jsonl.gz", "parquet")
    for ending in names:
        folder = tmp_path / ending
        folder.mkdir()
        for number, magic in enumerate((b"", b"PK\3\4", b"%PDF-1.4\n", b"BZh91AY&SY", b"\x1f\x8b\x08", b"<page>")):
            (folder / f"{number}.{ending}").write_bytes(magic + rng.randbytes(rng.randrange(5_000)))
        try:
            metrics, _ = ingested(f"{folder}/*.{ending}", tmp_path / f"out-{ending}")
            assert metrics["in"] >= 6
        except EmptyOutput:
            pass
