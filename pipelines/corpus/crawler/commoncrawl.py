"""Common Crawl's files: which are read, and each on this disk only while it is read."""

import zlib
from pathlib import Path

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.artifacts.work import progress_dir
from pipelines.corpus.crawler.download import Download
from pipelines.corpus.crawler.ranges import open_remote
from pipelines.corpus.crawler.sources import CommonCrawlSource
from pipelines.corpus.shard_step import committed

MAX_LIST_BYTES = 64_000_000
"""A crawl of 100,000 files has a list of 14 MB."""


def chosen_files(source: CommonCrawlSource, out: Path) -> dict[str, Path]:
    """Return the chosen files by their paths in the crawl, each with where it is put while it is read.

    They are the list's first, in the list's order, which Common Crawl never changes.
    """
    names = list(dict.fromkeys(source.paths or _listed(source, out)))
    if source.segment:
        names = [name for name in names if name.split("/")[3] == source.segment]
    names = names[: source.max_files]
    if not names:
        raise UserError(
            f"ingest.source.segment: {source.segment!r} is none of {source.crawl}; see its {source.listing}"
        )
    folder = progress_dir(out) / "download"
    return {name: folder / f"{index:05d}.warc.gz" for index, name in enumerate(names)}


def fetch_file(source: CommonCrawlSource, index: int, name: str, path: Path, out: Path) -> None:
    """Bring the file of shard `index` to `path`, and let those go whose shards are committed.

    So with one worker one file is on the disk at a time, and with more at most two a worker.
    """
    for other in path.parent.glob("*.warc.gz"):
        number = int(other.name.partition(".")[0])
        if number != index and committed(out, number, verify=False) is not None:
            other.unlink(missing_ok=True)
            other.with_name(f"{other.name}.json").unlink(missing_ok=True)
    with open_remote(source.base_url, source.timeout_seconds) as remote:
        Download(remote, source, name, path, out).run()


def _listed(source: CommonCrawlSource, out: Path) -> list[str]:
    path = progress_dir(out) / "list" / f"{source.format}.paths.gz"
    with open_remote(source.base_url, source.timeout_seconds) as remote:
        Download(remote, source, source.listing, path, out).run()
    unpacked = zlib.decompressobj(wbits=31)
    try:
        text = unpacked.decompress(path.read_bytes(), MAX_LIST_BYTES)
    except zlib.error as error:
        path.unlink()
        raise StageFailed(f"{source.listing} is no gzip file; check ingest.source.base_url") from error
    if not unpacked.eof:
        path.unlink()
        raise StageFailed(f"{source.listing} is cut off or unpacks to over {MAX_LIST_BYTES:,} bytes; run again")
    names = [line for line in text.decode("utf-8", "replace").splitlines() if line]
    wrong = next((name for name in names if not source.is_path(name)), None)
    if wrong is not None:
        raise StageFailed(f"{source.listing} names {wrong[:200]!r}, which is no file of the crawl; check base_url")
    return names
