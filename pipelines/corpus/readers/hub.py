"""Reading data sets of the Hugging Face hub: which files a split has, and their rows.

`datasets` says which files belong to a subset and a split; they are fetched one at a time at the pinned commit, read by
the readers of their formats and let go, so that the disk holds one file a worker. The name of the source is the file's
path in the repository; offset, digest, URL and crawl time are those of a Parquet row or a JSON line. No code of a
repository is run: this version of `datasets` has no way to.
"""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from pipelines.artifacts.errors import StageFailed, UserError
from pipelines.corpus.readers.jsonl import json_records
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.readers.tables import parquet_records

PARQUET = (".parquet",)
JSON_LINES = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".ndjson", ".ndjson.gz", ".json.gz", ".json")
LOOK_UP_SECONDS = 20
# huggingface_hub.errors.HTTPError, which it does not export by name, is its HTTP client's own, whichever that is.


def unpinned(dataset: str, revision: str) -> UserError:
    """Return the error of a revision that can move; it names today's commit, where the hub answers."""
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError

    what = f"revision {revision!r}" if revision else "no revision"
    try:
        commit = HfApi().dataset_info(dataset, revision=revision or None, timeout=LOOK_UP_SECONDS).sha
    except (HfHubHTTPError, HTTPError, OSError, ValueError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        remedy = f"set it to the 40 digits of a commit (the hub could not be asked: {cause})"
    else:
        remedy = f"today it is {commit}: set ingest.source.revision={commit}"
    return UserError(f"ingest.source: {dataset!r} has {what}, which does not fix its content; {remedy}")


def split_files(dataset: str, revision: str, folder: Path | None, subset: str | None, split: str) -> dict[str, Path]:
    """Return the files of a split by their names in the repository, sorted; those on the hub are not fetched yet.

    Raises UserError for a data set, subset or split that is not there and for a format that is not read.
    """
    base = f"{folder.resolve()}/" if folder else f"hf://datasets/{dataset}@{revision}/"
    found = {place.removeprefix(base): Path(place) for place in _places(dataset, revision, folder, subset, split)}
    for name in found:
        if not name.lower().endswith(PARQUET + JSON_LINES):
            raise UserError(
                f"ingest.source: {dataset!r} holds {name!r}, and only Parquet and JSON lines are read; the hub keeps a "
                "Parquet copy of most data sets on its branch refs/convert/parquet: set revision to its commit"
            )
    return dict(sorted(found.items()))


def _places(dataset: str, revision: str, folder: Path | None, subset: str | None, split: str) -> list[str]:
    import datasets
    from httpx2 import HTTPError

    datasets.disable_progress_bars()
    with TemporaryDirectory(prefix="gristmill-hub-") as scratch:
        try:
            builder = datasets.load_dataset_builder(
                str(folder.resolve()) if folder else dataset, subset, revision=revision or None, cache_dir=scratch
            )
        except (OSError, ValueError, HTTPError, datasets.exceptions.DatasetNotFoundError) as error:
            raise UserError(f"ingest.source: {dataset!r} cannot be read ({str(error).splitlines()[0]})") from None
    files = builder.config.data_files or {}
    if split not in files:
        raise UserError(f"ingest.source.split: {dataset!r} has no split {split!r}; it has {', '.join(files) or 'none'}")
    return [str(place) for place in files[split]]


def hub_records(
    repository: tuple[str, str] | None, name: str, path: Path, text_field: str, url_field: str, limits: Limits
) -> Iterator[Record | Dropped]:
    """Yield the rows of a file of a data set; `repository` is its name and commit, or None where the file is here."""
    if repository is None:
        yield from _rows(path, text_field, url_field, limits)
        return
    with TemporaryDirectory(prefix="gristmill-hub-") as scratch:
        yield from _rows(_fetched(*repository, name, Path(scratch)), text_field, url_field, limits)


def _fetched(dataset: str, revision: str, name: str, folder: Path) -> Path:
    from httpx2 import HTTPError
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(hf_hub_download(dataset, name, repo_type="dataset", revision=revision, local_dir=folder))
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise StageFailed(f"ingest: {name!r} of {dataset!r} could not be fetched ({error}); run again") from error


def _rows(path: Path, text_field: str, url_field: str, limits: Limits) -> Iterator[Record | Dropped]:
    if path.name.lower().endswith(PARQUET):
        return parquet_records(path, text_field, url_field)
    return json_records(path, text_field, url_field, limits)
