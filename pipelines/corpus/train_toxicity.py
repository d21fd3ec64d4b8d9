"""Trains the toxicity classifier and writes its weights and its card: `python -m pipelines.corpus.train_toxicity DATA`.

DATA is a folder with `filters/hate-speech-labelled.csv.xz`, `filters/toxic-spans-train.csv.xz`,
`filters/articles_1000.train.xz` and `tuning/gsm8k-train.jsonl.xz`; their sources and licences are in the card.
"""

import ast
import csv
import json
import lzma
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import scipy  # type: ignore[import-untyped]  # a tool of the developers, without stubs
import sklearn
from safetensors.numpy import save
from scipy.sparse import csr_matrix, vstack  # type: ignore[import-untyped]
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from pipelines.artifacts.pins import file_digest
from pipelines.corpus.toxicity import BUCKET_BITS, GRAM_LENGTHS, HERE, WEIGHTS, Classifier, gram_buckets, plain

TWEETS, SPANS, NEWS, MATHS = (
    "filters/hate-speech-labelled.csv.xz",
    "filters/toxic-spans-train.csv.xz",
    "filters/articles_1000.train.xz",
    "tuning/gsm8k-train.jsonl.xz",
)
HELD_OUT = 0.2
MIN_SENTENCE = 20
_NOISE = re.compile(r"&#?\w+;|https?://\S+|@\w+|\bRT\b")
_SENTENCE = re.compile(r"[^.!?\n]+[.!?]*")
_WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)*")  # noqa: RUF001  both apostrophes are meant

Bits = npt.NDArray[np.int64]


class Labelled(NamedTuple):
    """Texts and whether each is toxic, split at random with a fixed seed."""

    texts: list[str]
    toxic: Bits

    def split(self) -> tuple[Bits, Bits]:
        """Return the places of the training part and of the held-out part."""
        order = np.random.default_rng(0).permutation(len(self.texts))
        held = int(len(order) * HELD_OUT)
        return order[held:], order[:held]


def tweets(data: Path) -> Labelled:
    """Return the tweets; hateful and offensive ones are toxic."""
    rows = list(csv.DictReader(_open(data / TWEETS)))
    toxic = [row["class"] != "2" for row in rows]
    return Labelled([_NOISE.sub(" ", row["tweet"]) for row in rows], np.array(toxic, np.int64))


def comments(data: Path) -> Labelled:
    """Return the comments' sentences; those that a marked span touches are toxic."""
    texts, toxic = [], []
    for row in csv.DictReader(_open(data / SPANS)):
        marked = set(ast.literal_eval(row["spans"]))
        for match in _SENTENCE.finditer(row["text"]):
            if len(match.group()) >= MIN_SENTENCE:
                texts.append(match.group())
                toxic.append(not marked.isdisjoint(range(*match.span())))
    return Labelled(texts, np.array(toxic, np.int64))


def clean(data: Path) -> Labelled:
    """Return sentences of news and of school mathematics, taken as not toxic without a look."""
    texts = [json.loads(line)["question"] for line in _open(data / MATHS)][:3000]
    for line in _open(data / NEWS):
        found = [match.group() for match in _SENTENCE.finditer(line.partition(" ")[2])]
        texts += [sentence for sentence in found if len(sentence) >= MIN_SENTENCE][:10]
    return Labelled(texts, np.zeros(len(texts), np.int64))


def features(texts: list[str]) -> csr_matrix:
    """Return the counts of each text's n-gram buckets over the root of their sum, as `Classifier` weighs them."""
    found = [np.concatenate(list(gram_buckets(plain(text)))) for text in texts]
    starts = np.concatenate(([0], np.cumsum([len(row) for row in found])))
    values = np.concatenate([np.full(len(row), 1 / np.sqrt(max(len(row), 1))) for row in found])
    matrix = csr_matrix((values, np.concatenate(found), starts), shape=(len(texts), 1 << BUCKET_BITS))
    matrix.sum_duplicates()
    return matrix


def fit(matrix: csr_matrix, toxic: Bits) -> LogisticRegression:
    """Return the classifier with scikit-learn's default strength of regularisation."""
    return LogisticRegression(C=1.0, max_iter=500).fit(matrix, toxic)


def pack(model: LogisticRegression) -> Classifier:
    """Return the classifier with its weights rounded to 16-bit integers."""
    scale = float(np.abs(model.coef_).max()) / 32767
    return Classifier(np.round(model.coef_[0] / scale).astype(np.int16), scale, float(model.intercept_[0]))


def train(data: Path) -> tuple[Classifier, dict[str, Any]]:
    """Return the classifier trained on the training parts, and its measured figures."""
    sets = {"tweets": tweets(data), "comments": comments(data), "clean": clean(data)}
    matrices = {name: features(part.texts) for name, part in sets.items()}
    splits = {name: part.split() for name, part in sets.items()}

    def auroc(model: LogisticRegression, name: str, rows: Bits | slice) -> float:
        return round(float(roc_auc_score(sets[name].toxic[rows], model.decision_function(matrices[name][rows]))), 4)

    figures: dict[str, Any] = {}
    for name, other in (("tweets", "comments"), ("comments", "tweets")):
        rows, held = splits[name]
        alone = fit(matrices[name][rows], sets[name].toxic[rows])
        figures[f"trained on {name} alone"] = {
            f"auroc in domain ({name}, held out)": auroc(alone, name, held),
            f"auroc out of domain ({other}, all)": auroc(alone, other, slice(None)),
        }
    every = vstack([matrices[name][splits[name][0]] for name in sets])
    model = fit(every, np.concatenate([sets[name].toxic[splits[name][0]] for name in sets]))
    packed = pack(model)
    held_clean = [sets["clean"].texts[place] for place in splits["clean"][1]]
    scores = np.array([packed.score(text) for text in held_clean])
    figures["published: trained on all three"] = {
        "auroc on tweets, held out": auroc(model, "tweets", splits["tweets"][1]),
        "auroc on comments, held out": auroc(model, "comments", splits["comments"][1]),
        "share of clean held-out sentences at or above 0.5": round(float((scores >= 0.5).mean()), 4),
        "share of clean held-out sentences at or above 0.9": round(float((scores >= 0.9).mean()), 4),
    }
    figures["texts"] = {name: {"all": len(part.texts), "toxic": int(part.toxic.sum())} for name, part in sets.items()}
    return packed, figures


def card(data: Path, figures: dict[str, Any]) -> dict[str, Any]:
    """Return what a reader must know about the weights."""
    sources = {
        TWEETS: "t-davidson/hate-speech-and-offensive-language cb50f7e (Davidson et al. 2017), MIT",
        SPANS: "ipavlopoulos/toxic_spans beaf170 (Pavlopoulos et al. 2021), CC0 1.0",
        NEWS: "chrisjmccormick/MinHash b3b3343, MIT",
        MATHS: "openai/grade-school-math 3101c7d, MIT",
    }
    return {
        "model": "logistic regression on hashed character n-grams; a document's score is that of its worst window",
        "gram_lengths": GRAM_LENGTHS,
        "buckets": 1 << BUCKET_BITS,
        "licence": "Apache-2.0, as this project; trained on the sources below, none of whose text is contained",
        "sources": {name: {"from": origin, "sha256": file_digest(data / name)} for name, origin in sources.items()},
        "measured": figures,
        "limits": [
            "Out of domain each single set predicts the other poorly: read a score as a hint, not a judgement.",
            "The tweets' labels lean against African American English (Sap et al. 2019, Davidson et al. 2019) and the "
            "classifier inherits that: a low threshold removes this dialect, and speech about minorities, first.",
            "English only; quotation, fiction and medical text are not told from abuse.",
        ],
        "libraries": {"numpy": np.__version__, "scipy": scipy.__version__, "scikit-learn": sklearn.__version__},
    }


def candidates(data: Path) -> Iterator[str]:
    """Yield the words that mark toxicity in either set: what the word list was chosen from."""
    marked: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    for row in csv.DictReader(_open(data / SPANS)):
        spans = set(ast.literal_eval(row["spans"]))
        for match in _WORD.finditer(row["text"].lower()):
            seen[match.group()] += 1
            marked[match.group()] += match.start() in spans and match.end() - 1 in spans
    yield from (word for word, count in marked.most_common() if count >= 3 and count >= 0.6 * seen[word])
    labelled = tweets(data)
    pairs = [
        (word, bad)
        for text, bad in zip(labelled.texts, labelled.toxic.tolist(), strict=True)
        for word in set(_WORD.findall(text.lower()))
    ]
    bad_in, all_in = Counter(word for word, bad in pairs if bad), Counter(word for word, _ in pairs)
    yield from (word for word, count in bad_in.most_common() if count >= 8 and count >= 0.96 * all_in[word])


def main(data: Path) -> None:
    """Train, write the weights and the card beside this module, and show the card."""
    classifier, figures = train(data)
    held = {"weights": classifier.weights, "scale": np.array([classifier.scale]), "bias": np.array([classifier.bias])}
    WEIGHTS.write_bytes(save(held))
    written = json.dumps(card(data, figures), indent=2) + "\n"
    (HERE / "toxicity_card.json").write_text(written, encoding="utf-8")
    sys.stdout.write(written)


def _open(path: Path) -> Any:
    return lzma.open(path, "rt", encoding="utf-8", newline="" if path.name.endswith(".csv.xz") else None)


if __name__ == "__main__":
    *flags, folder = sys.argv[1:]
    if "--candidates" in flags:
        sys.stdout.write("\n".join(candidates(Path(folder))) + "\n")
    else:
        main(Path(folder))
