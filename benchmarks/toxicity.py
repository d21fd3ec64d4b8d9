"""The toxicity classifier: its AUROC in and out of domain, and whether training it twice gives equal bytes.

The stage is run on the two public labelled sets and two sets of clean text, as the weights that ship were. In domain is
the held-out part of a set; out of domain is all of a set, by the classifier that was trained on the others alone. The
last line is one JSON object.
"""

import json
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from support.claims import claim

from pipelines.corpus.toxic.labelled import read_labelled
from pipelines.corpus.toxic.scoring import WEIGHTS, count_listed_words, toxicity_score
from pipelines.corpus.toxic.training import auroc_interval
from pipelines.corpus.train_toxicity import TrainToxicityConfig, train_toxicity

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.corpus.labelled_sets import SETS, labelled_set

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
SMALL = 2_000


def trained(folder: Path, config: TrainToxicityConfig) -> tuple[bytes, dict[str, float], float]:
    """Return the weights' bytes, the metrics and the CPU seconds of a training."""
    started = time.process_time()
    metrics = train_toxicity(config, out=folder)
    return (folder / "weights" / WEIGHTS.name).read_bytes(), metrics, time.process_time() - started


def main(folder: Path) -> int:
    """Train, score, print the table and the claims, and return 0 when all hold."""
    config = TrainToxicityConfig(sets=tuple(labelled_set(name, DATA) for name in SETS))
    _, metrics, seconds = trained(folder / "whole", config)
    claims = []
    for name in ("tweets", "comments"):
        texts = read_labelled(labelled_set(name, DATA), set(), Counter())
        toxic = np.array([found.toxic for found in texts], np.int64)
        listed = auroc_interval(toxic, np.array([float(count_listed_words(found.text)) for found in texts]), config)
        print(f"{name}: word list {listed[0]:.4f} [{listed[1]:.4f}, {listed[2]:.4f}], which was chosen from both sets")
        for kind in ("in_domain", "out_of_domain"):
            stem = f"auroc.{kind}.{name}"
            value, low, high = metrics[stem], metrics[f"{stem}.low"], metrics[f"{stem}.high"]
            print(f"{name}: {kind} {value:.4f} [{low:.4f}, {high:.4f}]")
            target = 0.95 if (kind, name) == ("in_domain", "tweets") else 0.0
            what = f"toxicity AUROC {kind.replace('_', ' ')}, {name} [{low:.3f}, {high:.3f}]"
            claims.append(claim(what, value, target, at_most=False))
    small = TrainToxicityConfig(sets=tuple(labelled_set(name, DATA, max_texts=SMALL) for name in SETS))
    one, two = (trained(folder / name, small)[0] for name in ("one", "two"))
    claims.append(claim("toxicity: trained twice, share of equal bytes", float(one == two), 1.0, at_most=False))
    articles = labelled_set("news", DATA, sentences=False)
    sample = [found.text for found in read_labelled(articles, set(), Counter())]
    started = time.process_time()
    for text in sample:
        toxicity_score(text)
    rate = sum(map(len, sample)) / 1e6 / (time.process_time() - started)
    print(f"training {seconds:.1f} CPU s, scoring articles {rate:.1f} MB/s")
    print(json.dumps({"name": "toxicity", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(Path(folder)))
