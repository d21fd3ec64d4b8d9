"""A source is named by a URI, and its form chooses the kind."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import PinCache
from pipelines.corpus.ingest import IngestConfig
from pipelines.corpus.sources.kinds import (
    CodeSource,
    ConversationsSource,
    DocsSource,
    EpubSource,
    HtmlSource,
    HubSource,
    JatsSource,
    JsonlSource,
    ParquetSource,
    PdfSource,
    TextSource,
    WarcSource,
    WetSource,
    WikiSource,
    source_from_uri,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.warc", WarcSource),
        ("a.warc.gz", WarcSource),
        ("A.WARC.ZST", WarcSource),
        ("a.warc.lz4", WarcSource),
        ("a.arc", WarcSource),
        ("a.arc.gz", WarcSource),
        ("a.warc.wet.gz", WetSource),
        ("a.wet", WetSource),
        ("a.jsonl", JsonlSource),
        ("a.jsonl.zst", JsonlSource),
        ("a.json.gz", JsonlSource),
        ("*.jsonl.gz", JsonlSource),
        ("a.parquet", ParquetSource),
        ("a.html", HtmlSource),
        ("A.XHTML", HtmlSource),
        ("a.md", TextSource),
        ("a.epub", EpubSource),
        ("a.pdf", PdfSource),
        ("a.nxml", JatsSource),
        ("*.txt", TextSource),
    ],
)
def test_the_ending_of_a_file_or_a_glob_chooses_the_kind(tmp_path: Path, name: str, kind: type) -> None:
    config = IngestConfig.model_validate({"source": str(tmp_path / name)})
    assert type(config.source) is kind


def test_docs_is_the_default_and_has_a_name() -> None:
    assert IngestConfig().source == source_from_uri("docs:") == DocsSource()
    assert IngestConfig().roots() == {}


def test_a_folder_is_looked_into(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "a.jsonl").write_text("{}")
    (tmp_path / "notes.txt").write_text("")
    assert isinstance(source_from_uri(str(tmp_path)), JsonlSource)
    (tmp_path / "b.parquet").write_text("")
    with pytest.raises(UserError, match="holds jsonl and parquet files; name one kind by a glob"):
        source_from_uri(str(tmp_path))


@pytest.mark.parametrize("uri", ["s3://bucket/crawl", "http://a.example/x.warc.gz", "", "{tmp}/a.docx", "{tmp}/absent"])
def test_what_is_not_supported_is_said_in_one_line(tmp_path: Path, uri: str) -> None:
    (tmp_path / "a.docx").write_text("")
    with pytest.raises(UserError) as told:
        IngestConfig.model_validate({"source": uri.format(tmp=tmp_path)})
    assert "source" in str(told.value)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("name", "body", "kind"),
    [
        ("a.xml", "<?xml version='1.0'?><!-- <article> --><mediawiki xmlns='x'>", WikiSource),
        ("a.xml", "<!DOCTYPE article><article>", JatsSource),
        ("a.jsonl", '{"messages": []}', ConversationsSource),
        ("a.jsonl", '\n{"text": "x", "messages": []}', JsonlSource),
        ("a.jsonl", "{", JsonlSource),
        ("a.py", "", CodeSource),
    ],
)
def test_what_a_name_does_not_tell_the_content_does(tmp_path: Path, name: str, body: str, kind: type) -> None:
    (tmp_path / name).write_text(body)
    assert type(source_from_uri(str(tmp_path))) is kind
    if kind is not CodeSource:
        assert type(source_from_uri(str(tmp_path / name))) is kind


def test_a_prefix_names_the_kind_where_the_form_is_ambiguous(tmp_path: Path) -> None:
    for name in ("a.py", "a.md", "a.html"):
        (tmp_path / name).write_text("")
    with pytest.raises(UserError, match="holds code and html and text files; name one kind by a glob, such as"):
        source_from_uri(str(tmp_path))
    assert source_from_uri(f"code:{tmp_path}") == CodeSource(path=tmp_path)
    assert source_from_uri(f"html:{tmp_path}") == HtmlSource(path=tmp_path)
    with pytest.raises(UserError, match="is no folder"):
        source_from_uri(f"code:{tmp_path}/a.py").roots()  # type: ignore[union-attr]


def test_a_data_set_of_the_hub_is_named_by_its_address_and_commit() -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    source = source_from_uri(f"hf://datasets/owner/name@{commit}")
    assert source == HubSource(dataset="owner/name", revision=commit)
    with pytest.raises(UserError, match="names no data set"):
        source_from_uri("hf://datasets/owner/name/with/path@main")


def test_a_link_to_itself_does_not_exist(tmp_path: Path) -> None:
    (tmp_path / "round").symlink_to(tmp_path / "round")
    for uri in (f"{tmp_path}/round", f"pdf:{tmp_path}/round"):
        with pytest.raises(UserError, match="does not exist"):
            IngestConfig.model_validate({"source": uri}).roots()


def test_an_empty_folder_and_a_missing_file_are_the_users_to_mend(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no file"):
        source_from_uri(str(tmp_path))
    with pytest.raises(UserError, match="does not exist"):
        IngestConfig.model_validate({"source": str(tmp_path / "absent.warc.gz")}).roots()


def test_a_typo_in_a_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValidationError):
        IngestConfig.model_validate({"source": {"kind": "jsonl", "path": str(tmp_path), "textfield": "x"}})
    with pytest.raises(ValidationError):
        IngestConfig.model_validate({"source": {"kind": "wark", "path": str(tmp_path)}})


def test_a_source_is_its_content_and_not_its_place(tmp_path: Path) -> None:
    pins, identities = [], []
    for folder in ("one", "two"):
        path = tmp_path / folder / "a.jsonl"
        path.parent.mkdir()
        path.write_text('{"text": "x"}')
        config = IngestConfig.model_validate({"source": str(path.parent)})
        identities.append(config.identity())
        pins.append({name: root.pin(PinCache(tmp_path / "pins")) for name, root in config.roots().items()})
    assert identities[0] == identities[1]
    assert pins[0] == pins[1]
    assert list(pins[0]) == ["source.path"]


def test_the_form_of_the_config_round_trips(tmp_path: Path) -> None:
    config = IngestConfig.model_validate({"source": str(tmp_path / "a.parquet"), "workers": 3})
    assert IngestConfig.model_validate(config.model_dump(mode="json")) == config
    assert IngestConfig.model_json_schema()["properties"]["source"]["discriminator"]["propertyName"] == "kind"
