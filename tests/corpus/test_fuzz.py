"""A bounded fuzz run: inputs made worse by chance from the corpus in `fuzz/` never stop a reader or the extractor.

`fuzz/` holds one input a file, named by the reader it is for; what a run finds is added there and read ever after.
GRISTMILL_FUZZ sets the number of inputs and GRISTMILL_FUZZ_SEED the chances, for
a longer run than the tests'.
"""

import gzip
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipelines.corpus.extraction import ExtractorProcess, PageLimits
from pipelines.corpus.readers.crawl_pages import crawl_pages
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.wet import wet_records

CORPUS = sorted((Path(__file__).parent / "fuzz").iterdir())
INPUTS = int(os.environ.get("GRISTMILL_FUZZ", "400"))
LIMITS = Limits(record=200_000, page=100_000)
LAST = b"<html><body><p>The last page is whole.</p></body></html>"
BLOCK = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + LAST
GOOD = {
    "warc": b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Record-ID: <urn:last>\r\nContent-Type: application/http\r\n"
    b"WARC-Target-URI: http://last.example/\r\nContent-Length: %d\r\n\r\n%b\r\n\r\n" % (len(BLOCK), BLOCK),
    "arc": b"http://last.example/ 192.0.2.1 20200101000000 text/html %d\n%b\n" % (len(BLOCK), BLOCK),
}
TOKENS = (
    *(
        b"\r\n",
        b"\n\n",
        b"WARC/1.0\r\n",
        b"Content-Length: ",
        b"-1",
        b"99999999999",
        b"\0",
        b"\xff\xfe",
        b"\x1f\x8b\x08",
    ),
    *(
        b"Content-Encoding: gzip\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"HTTP/1.1 200\r\n",
        b" 20200101000000 a/b 9\n",
    ),
    *(
        b"<div>" * 300,
        b"</p>",
        b"<!--",
        b"<select><option>",
        b"&#xD800;",
        b"\xed\xa0\x80",
        b"<svg><desc>",
        b"<table><b>",
    ),
)


def worsened(data: bytes, chance: random.Random) -> bytes:
    """The input after up to eight random changes."""
    worse = bytearray(data)
    for _ in range(chance.randint(1, 8)):
        at = chance.randint(0, len(worse))
        match chance.randrange(5):
            case 0:
                worse[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                worse[at:at] = chance.choice(TOKENS)
            case 2:
                del worse[at : at + chance.randint(1, 60)]
            case 3:
                end = at + chance.randint(1, 200)
                worse[at:at] = worse[at:end]
            case _:
                worse[at:] = bytes(reversed(worse[at : at + 50])) + worse[at + 50 :]
    return bytes(worse)


def inputs(kind: str) -> Iterator[bytes]:
    """The corpus of a kind, then what chance makes of it."""
    seeds = [path.read_bytes() for path in CORPUS if path.name.startswith(kind)]
    yield from seeds
    chance = random.Random(os.environ.get("GRISTMILL_FUZZ_SEED", kind))
    for _ in range(INPUTS):
        yield worsened(chance.choice(seeds), chance)


@pytest.mark.slow
@pytest.mark.parametrize("kind", GOOD)
@pytest.mark.parametrize("form", ["plain", "members", "one member", "cut"])
def test_a_worsened_archive_is_read_to_its_last_good_page(tmp_path: Path, kind: str, form: str) -> None:
    path = tmp_path / f"a.{kind}"
    for data in inputs(kind):
        match form:
            case "plain":
                path.write_bytes(data + b"\r\n\r\n" + GOOD[kind])
            case "members":
                path.write_bytes(gzip.compress(data, 1, mtime=0) + gzip.compress(GOOD[kind], 1, mtime=0))
            case "one member":
                path.write_bytes(gzip.compress(data + b"\r\n\r\n" + GOOD[kind], 1, mtime=0))
            case _:
                packed = gzip.compress(data, 1, mtime=0)
                path.write_bytes(packed[: len(packed) * 2 // 3] + gzip.compress(GOOD[kind], 1, mtime=0))
        found = list(crawl_pages(path, LIMITS))
        assert all(item.reason for item in found if isinstance(item, Dropped)), data
        for item in found:
            if isinstance(item, Record):
                (item.content + item.url).encode()
        last = [item for item in found if isinstance(item, Record)]
        assert last, data
        assert last[-1].content == LAST.decode(), data


@pytest.mark.slow
def test_a_worsened_wet_file_is_read_to_its_end(tmp_path: Path) -> None:
    for data in inputs("warc"):
        (tmp_path / "a.wet").write_bytes(data)
        for item in wet_records(tmp_path / "a.wet", LIMITS):
            assert isinstance(item, Dropped) or item.content.encode() is not None


@pytest.mark.slow
@pytest.mark.parametrize("extractor", ["fast", "quality"])
def test_a_worsened_page_is_answered_with_text_or_a_known_reason(extractor: str) -> None:
    pages = [data.decode("utf-8", "replace") for data in inputs("html")]
    with ExtractorProcess(extractor, PageLimits(20, 4_000_000_000)) as process:  # type: ignore[arg-type]
        found = process.texts(pages)
    assert len(found) == len(pages)
    assert {answer.reason for answer in found} <= {"", "too_complex"}
