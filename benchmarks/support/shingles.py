"""How near an extracted text is to the gold text: F1 over shingles of four words.

The definition is that of the article extraction benchmark by Zyte (scrapinghub/article-extraction-benchmark): counts
of each page are divided by their sum, so that a long page weighs no more; precision is the mean over pages with a
prediction, recall over pages with a gold text, F1 their harmonic mean.
"""

import re
from collections import Counter
from collections.abc import Iterable
from statistics import mean

WORD = re.compile(r"\w+")
SIZE = 4


def shingles(text: str) -> Counter[tuple[str, ...]]:
    """Return the counts of the text's shingles; a shorter text is one shingle."""
    words = WORD.findall(text)
    found = (tuple(words[at : at + SIZE]) for at in range(max(1, len(words) - SIZE + 1)))
    return Counter(shingle for shingle in found if shingle)


def f1(pairs: Iterable[tuple[str, str]]) -> float:
    """Return the F1 of pairs of gold and predicted texts, between 0 and 1."""
    precisions, recalls = [], []
    for gold, predicted in pairs:
        true, said = shingles(gold), shingles(predicted)
        common = sum((true & said).values())
        if said:
            precisions.append(common / sum(said.values()))
        if true:
            recalls.append(common / sum(true.values()))
    precision, recall = mean(precisions), mean(recalls)
    return 2 * precision * recall / (precision + recall)
