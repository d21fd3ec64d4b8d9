"""Runs one peer over a documents output, in the peers' own environment, and says what it removed and took.

Usage: `python near_dedup_peer.py ENGINE DOCUMENTS WORK`. From reading Parquet to writing Parquet, one core, 5-word
shingles. The last line is one JSON object: CPU seconds, peak memory in bytes, versions and the offsets kept.
"""

import json
import sys
import time
from importlib import metadata
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

STATUS = Path("/proc/self/status")
SHINGLE = 5
PERMUTATIONS = 128
THRESHOLD = 0.8
SEED = 1
BANDS = 16
"""Of rensa, eight rows each: they meet half the time at a similarity of .70."""


def datatrove(documents: Path, work: Path) -> None:
    """Its four stages with its defaults (14 bands of 8), in this process."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.dedup import minhash
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.writers import ParquetWriter

    config = minhash.MinhashConfig(n_grams=SHINGLE)
    folders = {name: str(work / name) for name in ("signatures", "buckets", "clusters")}
    kept = str(work / "kept")
    reader = ParquetReader(str(documents))
    stages = [
        (1, [reader, minhash.MinhashDedupSignature(folders["signatures"], config)]),
        (config.num_buckets, [minhash.MinhashDedupBuckets(folders["signatures"], folders["buckets"], config=config)]),
        (1, [minhash.MinhashDedupCluster(folders["buckets"], folders["clusters"], config=config)]),
        (1, [reader, minhash.MinhashDedupFilter(folders["clusters"]), ParquetWriter(kept, compression="zstd")]),
    ]
    for number, (tasks, pipeline) in enumerate(stages):
        LocalPipelineExecutor(pipeline, tasks=tasks, workers=1, logging_dir=str(work / f"log-{number}")).run()


def datasketch(documents: Path, work: Path) -> None:
    """MinHash by xxh32 in bulk and MinHashLSH; a document that meets an earlier one goes."""
    import xxhash
    from datasketch import MinHash, MinHashLSH

    table = pq.read_table(documents)
    lsh = MinHashLSH(THRESHOLD, PERMUTATIONS)
    keep = []
    sets = ([shingle.encode() for shingle in shingles(text)] for text in table.column("text").to_pylist())
    signatures = MinHash.bulk(sets, num_perm=PERMUTATIONS, seed=SEED, hashfunc=xxhash.xxh32_intdigest)
    for number, signature in enumerate(signatures):
        keep.append(not lsh.query(signature))
        lsh.insert(number, signature, check_duplication=False)
    write(table, keep, work)


def rensa(documents: Path, work: Path) -> None:
    """RMinHash and its flags of duplicates; one of each band of like documents stays."""
    from rensa import RMinHash, RMinHashLSH

    table = pq.read_table(documents)
    sets = [shingles(text) for text in table.column("text").to_pylist()]
    matrix = RMinHash.digest_matrix_from_token_sets(sets, PERMUTATIONS, SEED)
    index = RMinHashLSH(THRESHOLD, PERMUTATIONS, BANDS)
    flags = index.insert_matrix_and_query_duplicate_flags(matrix)
    write(table, [not flag for flag in flags], work)


def shingles(text: str) -> list[str]:
    """Return the runs of words of a text."""
    words = text.lower().split()
    return list({" ".join(words[at : at + SHINGLE]) for at in range(max(len(words) - SHINGLE + 1, 1))})


def write(table: pa.Table, keep: list[bool], work: Path) -> None:
    """Write the rows that stay."""
    (work / "kept").mkdir(parents=True)
    pq.write_table(table.filter(pa.array(keep)), work / "kept" / "part.parquet", compression="zstd")


ENGINES = {"datatrove": datatrove, "datasketch": datasketch, "rensa": rensa}


def main(engine: str, documents: Path, work: Path) -> None:
    """Run the engine and print what it took and kept."""
    started = time.process_time()
    ENGINES[engine](documents, work)
    seconds = time.process_time() - started
    # Not ru_maxrss: after vfork and exec that is at least the parent's.
    peak = next(int(line.split()[1]) * 1024 for line in STATUS.read_text().splitlines() if line.startswith("VmHWM:"))
    kept = [name for part in sorted((work / "kept").glob("*.parquet")) for name in ids(part)]
    versions = {name: metadata.version(name) for name in (engine, *(["spacy"] if engine == "datatrove" else []))}
    print(json.dumps({"cpu_seconds": seconds, "peak_bytes": peak, "versions": versions, "kept": kept}))


def ids(part: Path) -> list[str]:
    """Return the documents of a part."""
    return pq.read_table(part, columns=["id"]).column("id").to_pylist()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
