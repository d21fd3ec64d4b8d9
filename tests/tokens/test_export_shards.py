import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datatrove.utils.dataset import DatatroveFileDataset, DatatroveFolderDataset
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.run import Planner
from pipelines.artifacts.store import Store
from pipelines.products import full
from pipelines.recipes import smoke
from pipelines.settings import with_settings
from pipelines.tokens.export_shards import ExportShardsConfig, export_shards
from pipelines.tokens.loader import TokenShards
from pipelines.tokens.split import SplitWriter

BOTH = ExportShardsConfig(formats=("megatron", "datatrove"))


def write_split(folder: Path, documents: list[list[int]], dtype: str = "<u2") -> Path:
    described = {"vocab_size": 60_000 if dtype == "<u2" else 200_000, "tokenizer_digest": "ab" * 32, "seed": 0}
    ids = np.array([number for document in documents for number in document], dtype)
    lengths = np.array([len(document) for document in documents])
    with SplitWriter(folder, folder.parent, dtype, 1_024, described) as writer:
        writer.write([f"doc-{number}" for number in range(len(documents))], ids, lengths, 7)
    return folder


def texts(count: int, seed: int, highest: int) -> list[list[int]]:
    drawn = np.random.default_rng(seed)
    return [[0, *drawn.integers(6, highest, drawn.integers(0, 300)).tolist()] for _ in range(count)]


@dataclass(frozen=True)
class Exported:
    """Exported shards and the documents in them."""

    out: Path
    documents: dict[str, list[list[int]]]
    metrics: dict[str, float]


@pytest.fixture(scope="module", params=["<u2", "<u4"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("export")
    highest = 60_000 if request.param == "<u2" else 200_000
    documents = {"train": texts(40, 0, highest), "heldout": texts(3, 1, highest)}
    paths = {name: write_split(folder / name, held, request.param) for name, held in documents.items()}
    metrics = export_shards(BOTH, **paths, out=folder / "out")
    return Exported(folder / "out", documents, metrics)


@dataclass(frozen=True)
class Megatron:
    """A `.bin` and `.idx` read by the rules of Megatron-LM's indexed dataset."""

    sequences: list[NDArray[Any]]
    documents: list[int]


def read_megatron(prefix: Path) -> Megatron:
    index, data = prefix.with_suffix(".idx").read_bytes(), prefix.with_suffix(".bin").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, sequences, documents = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    dtype = np.dtype({1: "u1", 2: "i1", 3: "<i2", 4: "<i4", 5: "<i8", 6: "<f8", 7: "<f4", 8: "<u2"}[code])
    offset = 9 + 8 + 1 + 8 + 8
    lengths = np.frombuffer(index, "<i4", sequences, offset)
    pointers = np.frombuffer(index, "<i8", sequences, offset + lengths.nbytes)
    indices = np.frombuffer(index, "<i8", documents, offset + lengths.nbytes + pointers.nbytes)
    assert offset + lengths.nbytes + pointers.nbytes + indices.nbytes == len(index), "nothing is left over"
    assert lengths.sum() * dtype.itemsize == len(data)
    held = [np.frombuffer(data, dtype, length, start) for length, start in zip(lengths, pointers, strict=True)]
    return Megatron(held, indices.tolist())


def test_megatron_reads_every_document_as_it_was(exported: Exported) -> None:
    for split, documents in exported.documents.items():
        found = read_megatron(exported.out / "megatron" / split)
        assert [sequence.tolist() for sequence in found.sequences] == documents
        assert found.documents == list(range(len(documents) + 1)), "a sequence a document, and the end"


def test_datatrove_reads_every_token_and_where_documents_end(exported: Exported) -> None:
    for split, documents in exported.documents.items():
        path = exported.out / "datatrove" / split / "00000_tokenized.ds"
        name, tokens, _ = path.with_name(f"{path.name}.metadata").read_text().split("\n")
        width = int(name.split("|")[1])
        ids = [number for document in documents for number in document]
        assert int(tokens) == len(ids)
        read = DatatroveFileDataset(str(path), 15, token_size=width, return_positions=True)
        assert len(read) == len(ids) // 16
        held = [read[number] for number in range(len(read))]
        assert [number for item in held for number in item["input_ids"].tolist()] == ids[: 16 * len(read)]
        for item in held:
            starts = [place for place, number in enumerate(item["input_ids"].tolist()) if number == 0]
            zeros = [place for place, number in enumerate(item["positions"].tolist()) if number == 0]
            assert zeros == sorted({0, *starts}), "positions start at a window and at each document"


def test_datatrove_finds_the_files_of_the_folder(exported: Exported) -> None:
    width = TokenShards(exported.out.parent / "train").dtype.itemsize
    folder = DatatroveFolderDataset(
        str(exported.out / "datatrove" / "train"), 15, filename_pattern="*.ds", token_size=width
    )
    assert folder[0]["input_ids"].tolist() == [token for text in exported.documents["train"] for token in text][:16]


def test_the_metadata_is_what_datatrove_itself_writes(exported: Exported, tmp_path: Path) -> None:
    from datatrove.pipeline.tokens.tokenizer import TokenizedFile

    path = exported.out / "datatrove" / "train" / "00000_tokenized.ds"
    ours = path.with_name(f"{path.name}.metadata").read_text()
    name, width = ours.split("\n")[0].split("|")
    theirs = TokenizedFile(
        str(tmp_path), "a.ds", tokenizer_name_or_path=name, save_final_metadata=True, token_size=int(width)
    )
    for document in exported.documents["train"]:
        theirs.write(document, None)
    theirs.close()
    assert (tmp_path / "a.ds").read_bytes() == path.read_bytes()
    assert (tmp_path / "a.ds.index").read_bytes() == path.with_name(f"{path.name}.index").read_bytes()
    assert (tmp_path / "a.ds.metadata").read_text() == ours


def test_the_metrics_count_documents_and_tokens(exported: Exported) -> None:
    for split, documents in exported.documents.items():
        assert exported.metrics[f"documents.{split}"] == len(documents)
        assert exported.metrics[f"tokens.{split}"] == sum(map(len, documents))
        told = json.loads((exported.out / "summary" / "summary.json").read_text())[split]
        assert (told["documents"], told["tokens"]) == (len(documents), sum(map(len, documents)))
        assert told["formats"] == ["datatrove", "megatron"]


@settings(max_examples=30)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=30))
def test_any_division_into_documents_is_kept(lengths: list[int], tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any")
    documents = [[0, *range(6, 5 + length)] for length in lengths]
    split = write_split(folder / "train", documents)
    config = ExportShardsConfig(formats=("megatron",))
    export_shards(config, train=split, heldout=split, out=folder / "out")
    found = read_megatron(folder / "out" / "megatron" / "train")
    assert [sequence.tolist() for sequence in found.sequences] == documents


def test_only_what_is_asked_for_is_written(tmp_path: Path) -> None:
    split = write_split(tmp_path / "train", [[0, 7]])
    export_shards(ExportShardsConfig(formats=("datatrove",)), train=split, heldout=split, out=tmp_path / "out")
    written = sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".")
    assert written == ["datatrove", "summary"]
    with pytest.raises(UserError, match="give megatron, datatrove or both"):
        export_shards(ExportShardsConfig(), train=split, heldout=split, out=tmp_path / "none")


@pytest.mark.parametrize(
    ("starts", "lengths"), [([0, 3], [2, 2]), ([0, 2], [2, 1]), ([0, 2], [2, 0]), ([0], [2]), ([0, 2, 4], [2, 2, 1])]
)
def test_spans_that_are_not_all_the_tokens_are_named(tmp_path: Path, starts: list[int], lengths: list[int]) -> None:
    split = write_split(tmp_path / "train", [[0, 7], [0, 8]])
    names = [str(number) for number in starts]
    table = pa.table({"document_id": names, "start": starts, "length": lengths})
    pq.write_table(table, split / "spans.parquet")
    with pytest.raises(UserError, match=r"spans\.parquet (names|does not name).*artifacts verify"):
        export_shards(BOTH, train=split, heldout=split, out=tmp_path / "out")


@pytest.mark.parametrize("content", [None, b"", b"PAR1 is not enough"])
def test_spans_that_cannot_be_read_are_named(tmp_path: Path, content: bytes | None) -> None:
    split = write_split(tmp_path / "train", [[0, 7], [0, 8]])
    (split / "spans.parquet").unlink()
    if content is not None:
        (split / "spans.parquet").write_bytes(content)
    with pytest.raises(UserError, match=r"spans\.parquet cannot be read"):
        export_shards(BOTH, train=split, heldout=split, out=tmp_path / "out")


def test_a_product_exports_only_where_formats_are_named() -> None:
    def nodes(formats: list[str]) -> set[str]:
        planner = Planner(Store(Path("nowhere")))
        full(with_settings(smoke(), {"export_shards.formats": formats}), planner)
        return {row.node for row in planner.rows}

    assert nodes(["megatron"]) - nodes([]) == {"export_shards"}


def test_an_export_is_the_same_bytes_again(exported: Exported, tmp_path: Path) -> None:
    folder = exported.out.parent
    export_shards(BOTH, train=folder / "train", heldout=folder / "heldout", out=tmp_path)
    for path in sorted(exported.out.rglob("*.*")):
        if path.is_file() and ".progress" not in path.parts:
            assert path.read_bytes() == (tmp_path / path.relative_to(exported.out)).read_bytes()
    assert json.loads((folder / "train" / "index.json").read_text())["tokenizer_digest"] == "ab" * 32
