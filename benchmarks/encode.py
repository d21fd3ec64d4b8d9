"""Encoding and sharding, documents in Parquet to token shards, against datatrove's DocumentTokenizer.

The documents are English novels cut at 4,000 characters, the tokenizer a BPE of 32,768 learnt from a part of them. CPU
seconds, ours and the peer's in turn, each in a process of its own whose start is not counted, medians of five; ours
splits, shuffles and hashes what it writes, and encodes a MiB twice. The ids of every document are compared. Give the
folder of the public data as the argument.
"""

import json
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from datatrove.data import Document
from support.claims import claim
from support.peers import peer_python

from pipelines.corpus.documents import PROVENANCE, document_id, part_name, read_documents, write_documents
from pipelines.tokens.loader import TokenShards
from pipelines.tokens.shard import ShardConfig, shard
from pipelines.tokens.tokenizer import TokenizerConfig, tokenizer

RUNS = 5
CHARACTERS = 4_000
DOCUMENTS = 6_000


def write_corpus(data: Path, folder: Path) -> int:
    """Write the documents and return the bytes of their text."""
    texts: list[str] = []
    with tarfile.open(data / "prose" / "english-novels.tar.xz") as archive:
        for member in archive:
            file = archive.extractfile(member) if member.name.endswith(".txt") else None
            if file and len(texts) < DOCUMENTS:
                novel = file.read().decode("utf-8", "replace")
                texts += [novel[start : start + CHARACTERS] for start in range(0, len(novel), CHARACTERS)]
    made = (Document(text=text, id=document_id("sha256:0", place)) for place, text in enumerate(texts[:DOCUMENTS]))
    write_documents(folder / part_name(0), folder, PROVENANCE, made)
    return sum(len(text.encode()) for text in texts[:DOCUMENTS])


def ours(documents: Path, made: Path, out: Path) -> float:
    """Write the shards once in this process and return the CPU seconds."""
    started = time.process_time()
    shard(ShardConfig(), documents=documents, tokenizer=made, out=out)
    return time.process_time() - started


def differing(documents: Path, out: Path, peer: Path) -> int:
    """Return how many documents have other ids, `<|bos|>` aside, or are absent."""
    found = {}
    for split in ("train", "heldout"):
        shards = TokenShards(out / split)
        for row in pq.read_table(out / split / "spans.parquet").to_pylist():
            found[row["document_id"]] = shards.window(row["start"], row["length"])[1:]
    stream = np.fromfile(next(peer.glob("*.ds")), "<u2")
    ends = [0, *np.fromfile(next(peer.glob("*.ds.index")), "<u8").tolist()]
    ids = [document.id for document in read_documents(documents, columns=["id"])]
    pairs = zip(ids, pairwise(ends), strict=True)
    return sum(not np.array_equal(found.get(name), stream[start:end]) for name, (start, end) in pairs)


def main(data: Path, folder: Path) -> int:
    """Measure, print the claims, and return 0 when all hold."""
    python = peer_python()
    if python is None:
        return 2
    documents = folder / "documents"
    size = write_corpus(data, documents)
    tokenizer(TokenizerConfig(vocab_size=32_768, sample_bytes=20_000_000), documents=documents, out=folder / "t")
    made = folder / "t" / "tokenizer"
    here = Path(__file__)
    seconds: dict[str, list[float]] = {"ours": [], "datatrove": []}
    for run in range(RUNS):
        commands = {
            "ours": [sys.executable, str(here), "--once", *map(str, (documents, made, folder / f"ours-{run}"))],
            "datatrove": [
                str(python),
                str(here.with_name("support") / "encode_peer.py"),
                *map(str, (documents, made / "tokenizer.json", folder / f"peer-{run}")),
            ],
        }
        for name, command in commands.items():
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            told = json.loads(done.stdout.splitlines()[-1])
            seconds[name].append(told["seconds"])
            print(f"{name} {told['version']}: {size / 1e6 / told['seconds']:.2f} MB a CPU second", flush=True)
    rate = {name: size / 1e6 / statistics.median(spent) for name, spent in seconds.items()}
    wrong = differing(documents, folder / "ours-0", folder / "peer-0")
    peer = rate["datatrove"]
    claims = [
        claim("MB encoded and sharded a CPU second", rate["ours"], 2.5 * peer, at_most=False, peer=peer),
        claim(f"of {DOCUMENTS:,} documents, those with other ids", wrong, 0),
    ]
    print(json.dumps({"name": "encode", "claims": claims}))
    return 0 if all(item["ok"] for item in claims) else 1


if __name__ == "__main__":
    if sys.argv[1:2] == ["--once"]:
        spent = ours(*map(Path, sys.argv[2:5]))
        print(json.dumps({"seconds": spent, "version": f"tiktoken {version('tiktoken')}"}))
        sys.exit(0)
    with tempfile.TemporaryDirectory() as made:
        sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "../shared/data"), Path(made)))
