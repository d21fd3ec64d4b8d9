"""Data sets of the hub: pinned by commit, resolved by `datasets`, read file by file; from a folder and over HTTP."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import PinCache
from pipelines.corpus.documents import read_documents
from pipelines.corpus.ingest import IngestConfig
from pipelines.corpus.sources.hub import HubSource
from tests.corpus.sources_bench import ingested

COMMIT = "0123456789abcdef0123456789abcdef01234567"
CARD = """---
configs:
- config_name: prose
  data_files:
  - split: train
    path: prose/train-*.parquet
  - split: test
    path: prose/test.parquet
- config_name: rows
  data_files: rows.jsonl
---
# A data set
"""


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set as the hub holds one: a card with its subsets, Parquet and JSON lines."""
    root = tmp_path_factory.mktemp("hub") / "set"
    (root / "prose").mkdir(parents=True)
    (root / "README.md").write_text(CARD)
    for number in range(2):
        rows = [{"text": f"train {number}.{row}", "url": f"http://a.example/{row}"} for row in range(3)]
        pq.write_table(pa.Table.from_pylist(rows), root / "prose" / f"train-{number}.parquet")
    pq.write_table(pa.Table.from_pylist([{"text": "test"}]), root / "prose" / "test.parquet")
    (root / "rows.jsonl").write_text('{"text": "a row"}\nnot JSON\n')
    return root


def test_a_split_of_a_local_data_set_is_read_and_pinned_by_content(repository: Path, tmp_path: Path) -> None:
    source = {"kind": "hub", "dataset": str(repository), "subset": "prose"}
    _, documents = ingested(source, tmp_path / "out")
    assert [document.text for document in documents] == [f"train {n}.{row}" for n in range(2) for row in range(3)]
    first = documents[0].metadata
    assert (first["source_uri"], first["url"]) == ("prose/train-0.parquet", "http://a.example/0")
    _, documents = ingested(source | {"split": "test"}, tmp_path / "test")
    assert [document.text for document in documents] == ["test"]
    metrics, documents = ingested(source | {"subset": "rows"}, tmp_path / "rows")
    assert ([document.text for document in documents], metrics["dropped.bad_json"]) == (["a row"], 1)
    before = HubSource.model_validate(source).roots()["dataset"].pin(PinCache(tmp_path / "pins"))
    assert len(before) == 64


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"subset": "prose", "split": "dev"}, "has no split 'dev'; it has train, test"),
        ({"subset": "poetry"}, "cannot be read"),
        ({}, "cannot be read"),
    ],
)
def test_a_wrong_subset_or_split_is_said_in_one_line(repository: Path, fields: dict[str, str], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        HubSource(dataset=str(repository), **fields).files()
    assert "\n" not in str(caught.value)


def test_a_format_that_is_not_read_names_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "train.csv").write_text("text\na\n")
    with pytest.raises(UserError, match=r"'train\.csv'.*refs/convert/parquet"):
        HubSource(dataset=str(tmp_path)).files()


@contextmanager
def hub(root: Path) -> Iterator[tuple[str, list[str]]]:
    """Serve the folder as the hub serves `owner/set` at `COMMIT`; yield its address and the paths asked for."""
    asked: list[str] = []
    files = {path.relative_to(root).as_posix(): path for path in sorted(root.rglob("*")) if path.is_file()}

    class Hub(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            return

        def answer(self, body: bytes, status: int = 200, **headers: str) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name.replace("_", "-"), value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def entry(self, name: str) -> dict[str, object]:
            body = files[name].read_bytes()
            return {"type": "file", "path": name, "size": len(body), "oid": hashlib.sha1(body).hexdigest()}  # noqa: S324

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            asked.append(path)
            api, plain = "/api/datasets/owner/set", f"/datasets/owner/set/resolve/{COMMIT}/"
            if path in (api, f"{api}/revision/{COMMIT}", f"{api}/revision/main"):
                siblings = [{"rfilename": name} for name in files]
                self.answer(json.dumps({"id": "owner/set", "sha": COMMIT, "siblings": siblings}).encode())
            elif path.startswith(f"{api}/tree/{COMMIT}"):
                below = path.removeprefix(f"{api}/tree/{COMMIT}").strip("/")
                inside = [name for name in files if Path(name).parent.as_posix() == (below or ".")]
                folders = {Path(name).parts[0] for name in files if "/" in name and not below}
                listed = [{"type": "directory", "path": name, "size": 0, "oid": COMMIT} for name in sorted(folders)]
                self.answer(json.dumps([*listed, *map(self.entry, inside)]).encode())
            elif path.startswith(plain) and path.removeprefix(plain) in files:
                body = files[path.removeprefix(plain)].read_bytes()
                tag = hashlib.sha1(body).hexdigest()  # noqa: S324
                self.answer(body, ETag=f'"{tag}"', X_Repo_Commit=COMMIT)
            else:
                self.answer(b"{}", 404, X_Error_Code="EntryNotFound")

        do_HEAD = do_GET

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"])).decode()
            asked.append(self.path)
            wanted = json.loads(body)["paths"] if body.startswith("{") else []
            self.answer(json.dumps([self.entry(name) for name in wanted if name in files]).encode())

    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def in_a_process(code: str, address: str, home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a new interpreter, because the hub's address is read once when its library loads."""
    environment = os.environ | {"HF_ENDPOINT": address, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"}
    command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
    root = Path(__file__).parents[3]
    return subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True, check=False, timeout=120)


INGEST = """
import sys
from pathlib import Path
from pipelines.corpus.ingest import IngestConfig, ingest
source = {"kind": "hub", "dataset": "owner/set", "subset": "prose", "revision": sys.argv[1]}
ingest(IngestConfig.model_validate({"source": source}), out=Path(sys.argv[2]))
"""
PIN = """
import sys
from pipelines.corpus.sources.kinds import source_from_uri
for revision in sys.argv[1:]:
    try:
        source_from_uri("hf://datasets/owner/set" + revision).roots()
    except Exception as error:
        print(type(error).__name__, error)
"""


def test_a_data_set_is_read_from_the_hub_at_its_commit(repository: Path, tmp_path: Path) -> None:
    with hub(repository) as (address, asked):
        done = in_a_process(INGEST, address, tmp_path / "home", COMMIT, str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr[-2_000:] + "\n".join(asked)
    texts = [document.text for document in read_documents(tmp_path / "out" / "documents")]
    assert texts == [f"train {number}.{row}" for number in range(2) for row in range(3)]
    assert not list((tmp_path / "home").rglob("*.parquet"))


def test_a_revision_that_can_move_is_refused_with_the_commit_it_stands_for(repository: Path, tmp_path: Path) -> None:
    with hub(repository) as (address, _):
        told = in_a_process(PIN, address, tmp_path / "home", "", "@main").stdout.splitlines()
    assert [line.startswith("UserError") and f"set ingest.source.revision={COMMIT}" in line for line in told] == [
        True
    ] * 2
    silent = in_a_process(PIN, "http://127.0.0.1:1", tmp_path / "home", "@main").stdout
    assert "set it to the 40 digits of a commit (the hub could not be asked" in silent


def test_a_plan_of_a_pinned_data_set_asks_nobody(tmp_path: Path) -> None:
    config = IngestConfig.model_validate({"source": f"hf://datasets/owner/set@{COMMIT}"})
    assert config.roots()["source.dataset"].pin(PinCache(tmp_path / "p")) == f"hf://datasets/owner/set@{COMMIT}"
