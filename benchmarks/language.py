"""Language identification on Tatoeba's sentences, joined to 200 characters, against lid.176.ftz as it is.

The words of `siblings.py` were chosen by looking at every second sentence, the first half; the claims are on the other.
Five rounds time both on the same texts. The last line is one JSON object.
"""

import json
import statistics
import sys
import tarfile
import time
from collections import defaultdict
from pathlib import Path

import fasttext
from support.claims import claim

from pipelines.corpus.scoring.language import detect_language, model_path

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
ROUNDS = 5
LENGTH = 200
SUPPORTED = {
    "afr": "af",
    "ast": "ast",
    "aze": "az",
    "ben": "bn",
    "bos": "bs",
    "bul": "bg",
    "cbk": "cbk",
    "ces": "cs",
    "cmn": "zh",
    "dan": "da",
    "dsb": "dsb",
    "ell": "el",
    "est": "et",
    "fra": "fr",
    "gla": "gd",
    "glg": "gl",
    "heb": "he",
    "hrv": "hr",
    "hun": "hu",
    "ido": "io",
    "ina": "ia",
    "isl": "is",
    "jav": "jv",
    "kaz": "kk",
    "kor": "ko",
    "lvs": "lv",
    "mar": "mr",
    "mhr": "mhr",
    "mon": "mn",
    "nld": "nl",
    "nob": "no",
    "oci": "oc",
    "pam": "pam",
    "pms": "pms",
    "por": "pt",
    "rus": "ru",
    "slv": "sl",
    "sqi": "sq",
    "swe": "sv",
    "swh": "sw",
    "tat": "tt",
    "tgl": "tl",
    "tuk": "tk",
    "ukr": "uk",
    "uzb": "uz",
    "war": "war",
    "yue": "yue",
}
"""The model's code of each language of the set that it knows; it knows none for the other nine of 56."""

Texts = list[tuple[str, str]]


def sentences() -> dict[str, list[str]]:
    """Return the sentences of each language but English, by its code in the set."""
    found = {}
    with tarfile.open(DATA / "filters" / "tatoeba.tar.xz") as archive:
        for member in sorted(archive, key=lambda member: member.name):
            content = archive.extractfile(member) if member.isfile() else None
            code = member.name.rsplit(".", 1)[-1]
            if content and code != "eng":
                found[code] = content.read().decode().splitlines()
    return found


def joined(lines: list[str]) -> list[str]:
    """Return the sentences joined until each text has 200 characters; the last may have fewer."""
    texts = [""]
    for line in lines:
        if len(texts[-1]) >= LENGTH:
            texts.append("")
        texts[-1] = f"{texts[-1]} {line}".strip()
    return texts


def half(found: dict[str, list[str]], first: int) -> Texts:
    """Return every second sentence, joined, with the language of each."""
    return [(SUPPORTED.get(code, code), text) for code, lines in found.items() for text in joined(lines[first::2])]


def plain(model: "fasttext.FastText", text: str) -> str:
    """Return the model's own answer."""
    return str(model.predict(text, k=1)[0][0]).removeprefix("__label__")


def ours(text: str) -> str:
    """Return our answer."""
    return detect_language(text, 2000)[0]


def accuracy(texts: Texts, answers: list[str]) -> tuple[float, float, float]:
    """Return the share that is right: of texts in supported languages, the mean over those languages, of all texts."""
    right: dict[str, list[bool]] = defaultdict(list)
    for (language, _), answer in zip(texts, answers, strict=True):
        right[language].append(language == answer)
    known = {language: hits for language, hits in right.items() if language in SUPPORTED.values()}
    micro = sum(map(sum, known.values())) / sum(map(len, known.values()))
    macro = statistics.mean(sum(hits) / len(hits) for hits in known.values())
    return micro, macro, sum(map(sum, known.values())) / len(texts)


def main() -> int:
    """Measure, print the claims, and return 0 when all hold."""
    if not DATA.is_dir():
        print(f"language: needs the public data at {DATA}")
        return 1
    model = fasttext.load_model(str(model_path()))
    found = sentences()
    for name, texts in (("half looked at", half(found, 0)), ("other half", half(found, 1))):
        seconds, answers, base = [], [], []
        for _ in range(ROUNDS):
            started = time.process_time()
            base = [plain(model, text) for _, text in texts]
            between = time.process_time()
            answers = [ours(text) for _, text in texts]
            seconds.append((time.process_time() - between, between - started))
        speed = statistics.median(theirs / own for own, theirs in seconds)
        scores, base_scores = accuracy(texts, answers), accuracy(texts, base)
        print(f"{name}: {len(texts)} texts; micro, macro, micro over all 56: ours {scores}, lid.176.ftz {base_scores}")
        print(
            f"{name}: {len(texts) / statistics.median(own for own, _ in seconds):.0f} texts/s, {speed:.2f} of its speed"
        )
    each: dict[str, list[bool]] = defaultdict(list)
    for (language, _), answer in zip(texts, answers, strict=True):
        each[language].append(language == answer)
    print(
        "below .95:",
        {name: round(sum(hits) / len(hits), 3) for name, hits in each.items() if sum(hits) < 0.95 * len(hits)},
    )
    claims = [
        claim("language, micro-average over supported languages", scores[0], 0.92, at_most=False, peer=base_scores[0]),
        claim(
            "language, macro-average over supported languages",
            scores[1],
            base_scores[1],
            at_most=False,
            peer=base_scores[1],
        ),
        claim("language, share of lid.176.ftz's speed", speed, 0.5, at_most=False),
    ]
    print(json.dumps({"name": "language", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    sys.exit(main())
