"""Reading EPUB: a file is a book, its text that of the spine's chapters in reading order (EPUB 3.3 and OPF 2.0.1).

The offset is 0 and the digest is that of the file's bytes. The URL is the book's source or identifier where that is an
address or an ISBN, DOI or UUID; the crawl time is when the book says that it was last changed, else published; the
licence is what its rights say. Nothing is unpacked to disk, and no more is decompressed than the limits allow.
"""

import posixpath
import re
import struct
import zlib
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from urllib.parse import unquote
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile

from pipelines.corpus.readers.licences import licence_in_words
from pipelines.corpus.readers.markup import BadXml, block_text, parsed_page, parsed_xml
from pipelines.corpus.readers.records import Dropped, Limits, Record, digest_of, storable, utc
from pipelines.corpus.readers.whole_file import read_whole

CONTAINER = "META-INF/container.xml"
ENCRYPTION = "META-INF/encryption.xml"
MAX_DIRECTORY = 4 << 20
"""Bytes of a zip's directory: that of a real book is some kilobytes, and each takes ten times as much memory."""
MAX_RATIO = 200
"""Decompressed to stored bytes of a chapter; real ones are below 20, deflate's bombs at 1,029."""
SAFE_BYTES = 1 << 20
CHAPTERS = frozenset({"application/xhtml+xml", "text/html", "application/x-dtbook+xml"})
BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details div dl dt fieldset figcaption figure footer form "
    "h1 h2 h3 h4 h5 h6 header hr legend li main nav ol p section summary table tr ul book level1 level2 title".split()
)
SKIPPED = frozenset("head script style svg math template audio video object iframe rt rp".split())
READ_ERRORS = (BadZipFile, zlib.error, struct.error, OSError, EOFError, RuntimeError, KeyError, ValueError, BadXml)
NAMES = {"c": "urn:oasis:names:tc:opendocument:xmlns:container", "d": "http://purl.org/dc/elements/1.1/"}
ADDRESS = re.compile(r"(?:https?://|urn:(?:isbn|uuid|doi):)\S{1,2000}", re.IGNORECASE)


class _Unfit(Exception):
    """A book that is not read, and why."""


def epub_record(path: Path, limits: Limits) -> Record | Dropped:
    """Return the book's chapters as one text."""
    body = read_whole(path, limits.record)
    if isinstance(body, Dropped):
        return body
    if not body.startswith(b"PK"):
        return Dropped(0, "mislabelled")
    try:
        _check_directory(body)
        with ZipFile(BytesIO(body)) as archive:
            book = _Book(archive, limits.record)
            text = "\n\n".join(chapter for chapter in book.chapters() if chapter)
            return Record(
                offset=0, digest=digest_of(body), url=book.url(), crawl_time=book.time(), content=storable(text),
                is_html=False, licence=licence_in_words(book.said("rights")),
            )  # fmt: skip
    except _Unfit as unfit:
        return Dropped(0, str(unfit))
    except READ_ERRORS:
        return Dropped(0, "damaged")


def _check_directory(body: bytes) -> None:
    """Refuse a directory too large to be a book's, before it is read: the end record says its size."""
    end = body.rfind(b"PK\5\6")
    if end >= 0 and len(body) >= end + 16 and struct.unpack_from("<I", body, end + 12)[0] > MAX_DIRECTORY:
        raise _Unfit("too_complex")


class _Book:
    """The package of a book: what it says of itself, and its chapters."""

    def __init__(self, archive: ZipFile, max_bytes: int) -> None:
        self._archive, self._left = archive, max_bytes
        place = parsed_xml(self._read(CONTAINER)).find(".//c:rootfile", NAMES)
        if place is None:
            raise BadXml("no rootfile")
        name = place.get("full-path", "")
        self._folder = posixpath.dirname(name)
        self._package = parsed_xml(self._read(name), lenient=True)
        self._locked = self._encrypted()

    def chapters(self) -> Iterator[str]:
        """Yield the text of each document of the spine that belongs to the linear reading order."""
        items = {item.get("id"): item for item in self._package.iterfind(".//{*}manifest/{*}item")}
        for entry in self._package.iterfind(".//{*}spine/{*}itemref"):
            item = items.get(entry.get("idref"))
            if item is None or entry.get("linear") == "no" or item.get("media-type") not in CHAPTERS:
                continue
            name = posixpath.normpath(posixpath.join(self._folder, unquote(item.get("href", ""))))
            if name in self._locked:
                raise _Unfit("encrypted")
            chapter = parsed_page(self._read(name))
            yield block_text(
                chapter,
                blocks=BLOCKS,
                skipped=SKIPPED,
                breaks=frozenset({"br", "td", "th"}),
                kept_as_is=frozenset({"pre"}),
            )

    def said(self, name: str) -> str:
        """Return what the package says under a name of Dublin Core."""
        return " ".join((self._package.findtext(f".//d:{name}", "", NAMES)).split())

    def url(self) -> str:
        """Return the address that the book gives as its source or its identifier."""
        stated = [
            self.said("source"),
            *(found.text or "" for found in self._package.iterfind(".//d:identifier", NAMES)),
        ]
        return next((storable(text.strip()) for text in stated if ADDRESS.fullmatch(text.strip())), "")

    def time(self) -> str:
        """Return when the book was last changed, else when it was published."""
        metas = self._package.iterfind(".//{*}metadata/{*}meta[@property='dcterms:modified']")
        return next((utc((meta.text or "").strip()) for meta in metas), "") or utc(_whole_date(self.said("date")))

    def _encrypted(self) -> frozenset[str]:
        """Return the names of files under digital rights management, and not those of obfuscated fonts only."""
        if ENCRYPTION not in self._archive.namelist():
            return frozenset()
        listed = parsed_xml(self._read(ENCRYPTION), lenient=True).iter("{*}CipherReference")
        return frozenset(posixpath.normpath(unquote(found.get("URI", ""))) for found in listed)

    def _read(self, name: str) -> bytes:
        info = self._archive.getinfo(name)
        if info.flag_bits & 1:
            raise _Unfit("encrypted")
        if info.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
            raise BadZipFile("EPUB knows stored and deflated files only")
        with self._archive.open(info) as file:
            body = file.read(self._left + 1)
        self._left -= len(body)
        if self._left < 0:
            raise _Unfit("too_large")
        if len(body) > max(SAFE_BYTES, MAX_RATIO * info.compress_size):
            raise _Unfit("decompression_bomb")
        return body


def _whole_date(date: str) -> str:
    """Return a year or a month as its first day."""
    return date + "-01-01"[3 * date.count("-") :] if re.fullmatch(r"\d{4}(-\d\d)?", date) else date
