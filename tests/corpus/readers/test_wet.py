"""WET files: conversion records are texts, whatever else is there is counted."""

import gzip
from pathlib import Path

import pytest

from pipelines.corpus.documents import read_documents
from pipelines.corpus.ingest import IngestConfig, ingest
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.wet import wet_records
from pipelines.corpus.sources.kinds import WetSource

LIMITS = Limits(record=1_000_000, page=1_000)


def record(number: int, block: bytes, kind: str = "conversion", mime: str = "text/plain") -> bytes:
    header = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:{number}>\r\nContent-Type: {mime}\r\n"
        f"WARC-Target-URI: http://a.example/{number}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return header.encode() + block + b"\r\n\r\n"


def test_a_real_wet_file_gives_its_text(shared_data: Path, tmp_path: Path) -> None:
    config = IngestConfig.model_validate({"source": str(shared_data / "crawl" / "commoncrawl.warc.wet.gz")})
    assert isinstance(config.source, WetSource)
    metrics = ingest(config, out=tmp_path)
    assert (metrics["in"], metrics["kept"], metrics["dropped.warcinfo"]) == (2, 1, 1)
    (document,) = read_documents(tmp_path / "documents")
    assert document.metadata["url"] == "https://an.wikipedia.org/wiki/Escopete"
    assert document.metadata["crawl_time"] == "2024-05-18T01:58:10Z"
    assert "Escopete" in document.text


@pytest.mark.parametrize("pack", [lambda data: data, lambda data: gzip.compress(data, mtime=0)])
def test_what_is_no_text_is_counted(tmp_path: Path, pack: object) -> None:
    parts = [
        record(0, b"software", "warcinfo"),
        record(1, "Grüße".encode()),
        record(1, b"again"),
        record(2, b"\x89PNG", mime="image/png"),
        record(3, b"x" * 2_000),
        record(4, b"bad \xff byte, and more"),
    ]
    (tmp_path / "a.wet").write_bytes(b"".join(map(pack, parts)))  # type: ignore[call-overload]
    found = list(wet_records(tmp_path / "a.wet", LIMITS))
    assert [item.reason if isinstance(item, Dropped) else item.content for item in found] == [
        "warcinfo", "Grüße", "duplicate_record_id", "not_text", "too_large", "bad \ufffd byte, and more",
    ]  # fmt: skip
    assert isinstance(found[1], Record)
    assert not found[1].is_html
