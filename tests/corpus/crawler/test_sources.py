"""The configs of the sources on the network: what is refused, what is pinned, what a plan loads."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from pipelines.artifacts.pins import PinCache
from pipelines.corpus.crawler.sources import CommonCrawlSource, CrawlSource
from pipelines.corpus.ingest import IngestConfig
from pipelines.corpus.sources.kinds import source_from_uri

ROOT = Path(__file__).resolve().parents[3]
CRAWL = {"kind": "crawl", "crawl_id": "2026-11", "seeds": ["http://a.example"], "contact": "me@a.example"}
COMMON = {"kind": "commoncrawl", "crawl": "CC-MAIN-2026-30"}
NAME = "crawl-data/CC-MAIN-2026-30/segments/1770000000000.12/warc/a.warc.gz"


def config(fields: dict[str, Any], **more: Any) -> IngestConfig:
    return IngestConfig.model_validate({"source": {**fields, **more}})


@pytest.mark.parametrize(
    "wrong",
    [
        {"seeds": []},
        {"seeds": ["ftp://a.example"]},
        {"seeds": ["http://me:word@a.example"]},
        {"seeds": ["a.example"]},
        {"contact": ""},
        {"contact": "nobody"},
        {"contact": "a@b.example\r\nX: y"},
        {"contact": None},
        {"crawl_id": ""},
        {"crawl_id": "../x"},
        {"allowed_networks": ["10.1.2.3/8"]},
        {"allowed_networks": ["here"]},
        {"allowed_hosts": ["http://b.example"]},
        {"max_pages": 0},
        {"connections_per_host": 100},
        {"agent": "someone else"},
    ],
    ids=str,
)
def test_a_crawl_that_would_be_impolite_or_nameless_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(CRAWL, **wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"crawl": "2026-30"},
        {"format": "wat"},
        {"paths": ["../../etc/passwd"]},
        {"paths": [NAME.replace("2026-30", "2025-30")]},
        {"paths": [NAME.replace("warc/a", "../a")]},
        {"paths": [NAME + "?x"]},
        {"paths": [NAME], "format": "wet"},
        {"paths": [NAME], "segment": "1770000000000.12"},
        {"segment": "all"},
        {"max_files": 0},
        {"base_url": "data.commoncrawl.org"},
    ],
    ids=str,
)
def test_files_that_are_not_of_the_crawl_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        config(COMMON, **wrong)


def test_seeds_take_their_normal_form_once() -> None:
    source = config(CRAWL, seeds=["HTTP://A.example", "http://a.example/#x", "http://b.example"]).source
    assert isinstance(source, CrawlSource)
    assert source.seeds == ("http://a.example/", "http://b.example/")


def test_a_crawl_is_pinned_by_its_id_and_common_crawl_by_its_crawl(tmp_path: Path) -> None:
    pins = PinCache(tmp_path / "pins")
    own, common = config(CRAWL), config(COMMON)
    assert {name: root.pin(pins) for name, root in own.roots().items()} == {"source.crawl": "2026-11"}
    assert {name: root.pin(pins) for name, root in common.roots().items()} == {"source.crawl": "CC-MAIN-2026-30"}
    assert common.identity() != config(COMMON, paths=[NAME]).identity()


@pytest.mark.parametrize(
    ("fields", "change"),
    [(CRAWL, {"connections": 3}), (CRAWL, {"min_delay_seconds": 9}), (COMMON, {"retries": 3, "range_bytes": 4096})],
)
def test_how_fast_it_is_fetched_is_no_part_of_the_key(fields: dict[str, Any], change: dict[str, Any]) -> None:
    assert config(fields).identity() == config(fields, **change).identity()


CHANGES: dict[str, dict[str, Any]] = {
    "crawl": {
        "crawl_id": "2026-12",
        "seeds": ["http://b.example"],
        "contact": "you@a.example",
        "scope": "any",
        "allowed_hosts": ["c.example"],
        "allowed_networks": ["10.0.0.0/8"],
        "content_types": ["text/plain"],
        "timeout_seconds": 5.0,
        "max_delay_seconds": 5.0,
        "retry_interrupted": True,
        **dict.fromkeys(("max_depth", "max_pages", "max_bytes", "max_pages_per_host", "max_bytes_per_host"), 7),
        **dict.fromkeys(("max_hosts", "max_urls", "max_links_per_page", "max_redirects", "retries"), 7),
        **dict.fromkeys(("max_body_bytes", "file_bytes"), 77_777),
        "connections_per_host": 2,
    },
    "commoncrawl": {
        "crawl": "CC-MAIN-2026-31",
        "format": "wet",
        "segment": "1770000000000.12",
        "paths": [NAME],
        "max_files": 7,
        "base_url": "https://mirror.example",
    },
}


@pytest.mark.parametrize("fields", [CRAWL, COMMON], ids=lambda fields: fields["kind"])
def test_every_field_that_may_change_what_is_read_is_part_of_the_key(fields: dict[str, Any]) -> None:
    base = config(fields)
    kind = type(base.source)
    assert set(CHANGES[fields["kind"]]) == set(kind.model_fields) - kind.runtime - {"kind"}
    for name, value in CHANGES[fields["kind"]].items():
        assert config(fields, **{name: value}).identity() != base.identity(), name


def test_a_crawl_of_common_crawl_is_named_by_its_id() -> None:
    assert source_from_uri("CC-MAIN-2026-30") == CommonCrawlSource(crawl="CC-MAIN-2026-30")


def test_planning_a_crawl_loads_no_network_library() -> None:
    script = (
        "import sys; from pipelines.corpus.ingest import IngestConfig\n"
        f"IngestConfig.model_validate({{'source': {CRAWL!r}}}).identity()\n"
        f"IngestConfig.model_validate({{'source': {COMMON!r}}}).identity()\n"
        "heavy = ('aiohttp', 'httpx', 'fsspec', 'protego', 'sqlite3', 'pyarrow')\n"
        "print([name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
