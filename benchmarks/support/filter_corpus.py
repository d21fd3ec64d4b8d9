"""The documents that `filters.py` judges: real text of many kinds, and the same text damaged in fixed ways.

Novels in passages, news articles, web pages by our extractor's library with and without their frames, questions, lines
of other languages; every second one is damaged: lines or words repeated, cut, listed, marks taken off or put in, by
strengths spread evenly so that some documents lie on either side of each threshold.
"""

import gzip
import io
import json
import lzma
import random
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

from fastwarc.warc import ArchiveIterator, WarcRecordType
from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.encoding import bytes_to_str, detect_encoding
from resiliparse.parse.html import HTMLTree

LONGEST = 20_000
Damage = Callable[[str, random.Random], str]


def corpus(data: Path, passages: int) -> list[str]:
    """Return the texts, in the same order for the same data: `passages` of novels and all of the rest."""
    rng = random.Random(3)  # noqa: S311 - damage, not secrets
    texts = [*novels(data, passages, rng), *articles(data), *pages(data), *questions(data), *foreign(data)]
    texts = [text[:LONGEST] for text in texts if text.strip()]
    damaged = [DAMAGES[place % len(DAMAGES)](text, rng) for place, text in enumerate(texts)]
    return [text for text in texts + damaged if text]


def novels(data: Path, passages: int, rng: random.Random) -> Iterator[str]:
    """Yield passages of 300 to 6,000 characters, half of them with the lines of a paragraph joined."""
    with tarfile.open(data / "prose" / "english-novels.tar.xz") as archive:
        books = [member for member in archive if member.isfile() and member.name.endswith(".txt")][:20]
        for book in books:
            content = archive.extractfile(book)
            text = content.read().decode(errors="replace") if content else ""
            for number in range(passages // len(books)):
                start = rng.randrange(max(len(text) - 6000, 1))
                passage = text[start : start + rng.randint(300, 4000)]
                yield (
                    passage
                    if number % 2
                    else "\n".join(" ".join(paragraph.split()) for paragraph in passage.split("\n\n"))
                )


def articles(data: Path) -> Iterator[str]:
    """Yield news articles, one line each."""
    with lzma.open(data / "filters" / "articles_1000.train.xz", "rt", encoding="utf-8") as file:
        yield from (line.partition(" ")[2].strip() for line in file)


def pages(data: Path) -> Iterator[str]:
    """Yield the main text and the whole text of web pages."""
    for html in html_pages(data):
        tree = HTMLTree.parse(html)
        yield extract_plain_text(tree, main_content=True)
        yield extract_plain_text(tree, main_content=False)


def html_pages(data: Path) -> Iterator[str]:
    """Yield the pages of the extraction benchmark and of the crawls."""
    with tarfile.open(data / "extraction" / "article-extraction.tar.xz") as archive:
        for member in archive:
            content = archive.extractfile(member)
            if content and member.name.endswith((".html", ".html.gz")):
                raw = content.read()
                raw = gzip.decompress(raw) if member.name.endswith(".gz") else raw
                yield bytes_to_str(raw, detect_encoding(raw))
    for name in ("web-0.warc.gz", "web-1.warc.gz", "archive.warc.gz", "quirk.warc.gz", "web.warc.lz4"):
        stream = io.BytesIO((data / "crawl" / name).read_bytes())
        for record in ArchiveIterator(stream, record_types=WarcRecordType.response):
            if record.http_content_type == "text/html":
                raw = record.reader.read()
                yield bytes_to_str(raw, detect_encoding(raw))


def questions(data: Path) -> Iterator[str]:
    """Yield short stories of questions and answers, and reading passages."""
    with lzma.open(data / "tuning" / "gsm8k-train.jsonl.xz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(300), strict=False)]
    for start in range(0, len(rows), 3):
        yield "\n\n".join(f"{row['question']}\n{row['answer']}" for row in rows[start : start + 3])


def foreign(data: Path) -> Iterator[str]:
    """Yield sentences of every third language of Tatoeba, forty lines each."""
    with tarfile.open(data / "filters" / "tatoeba.tar.xz") as archive:
        members = sorted((member for member in archive if member.isfile()), key=lambda member: member.name)
        for member in members[::3]:
            content = archive.extractfile(member)
            lines = content.read().decode(errors="replace").splitlines() if content else []
            yield "\n".join(lines[:40])


def repeat_lines(text: str, rng: random.Random) -> str:
    """Return the text with up to half of its lines said again."""
    lines = text.splitlines()
    share = rng.random() / 2
    return "\n".join(line + (f"\n{line}" if rng.random() < share else "") for line in lines)


def repeat_phrases(text: str, rng: random.Random) -> str:
    """Return the text with a phrase of its own strewn in."""
    words = text.split(" ")
    start, length = rng.randrange(len(words)), rng.randint(2, 12)
    phrase = " ".join(words[start : start + length])
    share = rng.random() / 10
    return " ".join(word + (f" {phrase}" if rng.random() < share else "") for word in words)


def unpunctuate(text: str, rng: random.Random) -> str:
    """Return the text without most of the marks at line ends."""
    share = 0.5 + rng.random() / 2
    return "\n".join(line.rstrip(".!?\"'”") if rng.random() < share else line for line in text.splitlines())


def break_lines(text: str, rng: random.Random) -> str:
    """Return the text in short lines, as menus and tables are."""
    words, lines = text.split(), []
    length = rng.randint(1, 12)
    while words:
        count = rng.randint(1, length)
        lines.append(" ".join(words[:count]))
        words = words[count:]
    return "\n".join(lines)


def strew_marks(text: str, rng: random.Random) -> str:
    """Return the text with hashes, ellipses, numbers or brackets between its words."""
    mark = rng.choice(["#", "...", "…", "1,234", "{", "|", "25%", "[3]", "*", "&"])
    share = rng.random() / 3
    return " ".join(word + (f" {mark}" if rng.random() < share else "") for word in text.split(" "))


def make_list(text: str, rng: random.Random) -> str:
    """Return the text as a list of points, or with lines that trail off."""
    share, start, end = rng.random() * 1.2, *rng.choice([("- ", ""), ("• ", ""), ("", "..."), ("", "…")])
    return "\n".join(f"{start}{line}{end}" if rng.random() < share else line for line in text.splitlines())


def cut(text: str, rng: random.Random) -> str:
    """Return the first 20 to 120 words."""
    return text[: text.find(" ", rng.randint(100, 700))]


def glue(text: str, rng: random.Random) -> str:
    """Return the text with words run together or cut apart."""
    share, joint = rng.random(), rng.choice(["", "-", "_", "/"])
    return "".join(word + (joint if rng.random() < share else " ") for word in text.split(" "))


def boilerplate(text: str, rng: random.Random) -> str:
    """Return the text between lines that every site has."""
    lines = ["Please enable JavaScript to view this page.", "This site uses cookies.", "Read our Privacy Policy."]
    lines += ["Lorem ipsum dolor sit amet here.", "function() { return true; } is here."]
    return "\n".join([*rng.sample(lines, rng.randint(1, 3)), text, rng.choice(lines)])


DAMAGES: tuple[Damage, ...] = (
    *(repeat_lines, repeat_phrases, unpunctuate, break_lines, strew_marks, make_list, cut, glue, boilerplate),
    lambda text, rng: text,
    repeat_phrases,
)
