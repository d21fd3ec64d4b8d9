"""Documents with planted duplicates, made from novels with a fixed seed, and the truth about them.

The truth is exact: every pair of documents whose Jaccard similarity is at the threshold, found by an inverted index
over plain Python's shingles, and not by the code that is measured.
"""

import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from datatrove.data import Document
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from pipelines.corpus.documents import PROVENANCE, document_id, part_name, write_documents
from pipelines.corpus.ngrams import shingles

SEED = 20261122
PARTS = 8
MEAN_WORDS = 215
"""Of a passage: some 1.2 kB."""
SHARES = {"copies": 0.34, "identical": 0.06, "letters": 0.03, "frames": 0.03}
"""Near-duplicates of passages, documents of two texts, letters of one form with other facts, pages in one frame."""
GREATEST_EDIT_RATE = 0.3


def passages(archive: Path) -> Iterator[list[str]]:
    """Yield the words of the novels, passage by passage; none overlaps another."""
    rng = random.Random(SEED)  # noqa: S311 - a fixed seed, no secret
    with tarfile.open(archive) as novels:
        for member in sorted(novels.getmembers(), key=lambda item: item.name):
            file = novels.extractfile(member) if member.isfile() and member.name.endswith(".txt") else None
            words = file.read().decode("utf-8", "replace").split(" ") if file else []
            at = 0
            while at < len(words):
                length = rng.randint(MEAN_WORDS // 2, MEAN_WORDS * 3 // 2)
                yield words[at : at + length]
                at += length


def edited(words: list[str], rng: random.Random, vocabulary: list[str]) -> list[str]:
    """Return the words with up to 30% replaced, left out or followed by another; half the time all in one place."""
    rate = rng.random() * GREATEST_EDIT_RATE
    count = int(rate * len(words))
    if rng.random() < 0.5:
        start = rng.randrange(len(words) - count + 1)
        places = set(range(start, start + count))
    else:
        places = set(rng.sample(range(len(words)), count))
    made: list[str] = []
    for place, word in enumerate(words):
        what = rng.randrange(3) if place in places else 3
        made += {0: [rng.choice(vocabulary)], 1: [], 2: [word, rng.choice(vocabulary)], 3: [word]}[what]
    return made


def letter(form: list[str], rng: random.Random, vocabulary: list[str]) -> list[str]:
    """Return the form with eight facts of two words filled in."""
    made = list(form)
    for place in range(10, len(made) - 10, len(made) // 8):
        made[place : place + 2] = rng.choices(vocabulary, k=2)
    return made


def texts(archive: Path, count: int) -> list[str]:
    """Return `count` documents in a random order."""
    rng = random.Random(SEED)  # noqa: S311 - a fixed seed, no secret
    made = {name: int(share * count) for name, share in SHARES.items()}
    source = passages(archive)
    plain = [next(source) for _ in range(count - sum(made.values()))]
    form, frame, *hot = (next(source) for _ in range(4))
    vocabulary = [word for words in plain[:: max(count // 2_000, 1)] for word in words]
    documents = list(plain)
    documents += [edited(rng.choice(plain), rng, vocabulary) for _ in range(made["copies"])]
    documents += [hot[number % 3 == 0] for number in range(made["identical"])]
    documents += [letter(form, rng, vocabulary) for _ in range(made["letters"])]
    half = len(frame) // 2
    documents += [[*frame[:half], *rng.choices(vocabulary, k=60), *frame[half:]] for _ in range(made["frames"])]
    rng.shuffle(documents)
    return [" ".join(words) for words in documents]


def write(found: list[str], folder: Path) -> None:
    """Write the texts as a documents output of a few parts; the number of a document is its record's offset."""
    per_part = -(-len(found) // PARTS)
    for part in range(PARTS):
        rows = range(part * per_part, min((part + 1) * per_part, len(found)))
        documents = (
            Document(text=found[row], id=document_id("sha256:0", row), metadata={"record_offset": row}) for row in rows
        )
        write_documents(folder / part_name(part), folder, pa.schema(list(PROVENANCE)), documents)


class Truth(NamedTuple):
    """The pairs of different shingle sets at the threshold or above, and what they link."""

    sets: NDArray[np.int64]
    """Each document's shingle set; documents of one text have the same."""
    pairs: NDArray[np.int64]
    """Pairs of sets."""
    clusters: NDArray[np.int64]
    """Each document's cluster by single linkage."""


def truth_of(found: list[str], threshold: float, shingle_words: int) -> Truth:
    """Return the exact truth, by prefix filtering over sets in the order of their rarest shingles."""
    known: dict[bytes, int] = {}
    distinct: list[NDArray[np.uint64]] = []
    sets = np.empty(len(found), np.int64)
    for number, text in enumerate(found):
        own = shingles(text, shingle_words)
        sets[number] = known.setdefault(own.tobytes(), len(distinct))
        if sets[number] == len(distinct):
            distinct.append(own)
    pairs = np.array(sorted(_pairs(distinct, threshold)), np.int64).reshape(-1, 2)
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), (len(distinct), len(distinct)))
    return Truth(sets, pairs, connected_components(graph, directed=False)[1][sets])


def _pairs(distinct: list[NDArray[np.uint64]], threshold: float) -> Iterator[tuple[int, int]]:
    names, counts = np.unique(np.concatenate(distinct), return_counts=True)
    rarity = np.empty(len(names), np.int64)
    rarity[np.argsort(counts, kind="stable")] = np.arange(len(names))
    ordered = [np.sort(rarity[np.searchsorted(names, own)]) for own in distinct]
    alone = int(np.count_nonzero(counts == 1))
    """The ranks below are shingles of one set only, which no other shares."""
    holders: dict[int, list[int]] = {}
    for number in sorted(range(len(ordered)), key=lambda item: (len(ordered[item]), item)):
        own = ordered[number]
        prefix = own[: len(own) - int(np.ceil(threshold * len(own) - 1e-6)) + 1]
        shared = prefix[prefix >= alone].tolist()
        for other in sorted({other for name in shared for other in holders.get(name, ())}):
            common = len(np.intersect1d(own, ordered[other], assume_unique=True))
            if common / (len(own) + len(ordered[other]) - common) >= threshold:
                yield other, number
        short = len(own) - int(np.ceil(2 * threshold / (1 + threshold) * len(own) - 1e-6)) + 1
        for name in own[:short][own[:short] >= alone].tolist():
            holders.setdefault(name, []).append(number)


class Removal(NamedTuple):
    """How a removal compares with exact single linkage, whichever document of a cluster it keeps."""

    f1: float
    unique_removed: int
    """Documents without a near-duplicate that were removed."""
    pairs_left: float
    """Share of the true pairs of which both documents were kept."""


def judged(truth: Truth, removed: NDArray[np.bool_]) -> Removal:
    """Return the judgement on the documents that `removed` names; of a cluster of k all but one should go."""
    sizes = np.bincount(truth.clusters)
    gone = np.bincount(truth.clusters, weights=removed, minlength=len(sizes))
    right = float(np.minimum(gone, sizes - 1).sum())
    f1 = 2 * right / (float(removed.sum()) + float((sizes - 1).sum()))
    return Removal(f1, int(gone[sizes == 1].sum()), _pairs_of(truth, ~removed) / _pairs_of(truth, removed | True))


def _pairs_of(truth: Truth, held: NDArray[np.bool_]) -> float:
    counts = np.bincount(truth.sets, weights=held).astype(np.int64)
    return float((counts * (counts - 1) // 2).sum() + (counts[truth.pairs[:, 0]] * counts[truth.pairs[:, 1]]).sum())
