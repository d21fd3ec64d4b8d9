"""Configs of the sources on the network; importing them loads no network library."""

import ipaddress
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, Field, field_validator, model_validator

from pipelines.artifacts.errors import UserError
from pipelines.artifacts.pins import NamedRoot, Root
from pipelines.artifacts.stage import StageConfig
from pipelines.corpus.readers.records import Dropped, Limits, Record
from pipelines.corpus.sources.base import Source
from pipelines.corpus.sources.byte_shards import Sized, Slice

KILOBYTE, MEGABYTE, GIGABYTE = 1_000, 1_000_000, 1_000_000_000
CRAWL_NAME = r"^CC-MAIN-20\d\d-\d\d$"


class CrawlSource(StageConfig):
    """A polite crawl of seed URLs, written as WARC and then read like any other crawl.

    The web changes, so `crawl_id` is what pins the crawl: the same id and settings mean the artifact that is there.
    """

    model_config = ConfigDict(title="Crawl")
    runtime: ClassVar[frozenset[str]] = frozenset({"connections", "min_delay_seconds", "first_wait_seconds"})
    kind: Literal["crawl"] = Field("crawl", description="Fetches seed URLs and what they link to, as WARC")
    crawl_id: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
        description="Name or date of this crawl: with the same one a finished crawl is reused, not repeated",
    )
    seeds: tuple[str, ...] = Field(min_length=1, max_length=100_000, description="URLs (http or https) to begin with")
    contact: str = Field(
        pattern=r"^(https?://[!-'*-~]+|[!-'*-?A-~]+@[!-'*-?A-~]+)$",  # ASCII: it stands in a header, in brackets
        max_length=200,
        description="Page or e-mail address by which a site's owner reaches you; sent with every request",
    )
    scope: Literal["host", "subdomains", "any"] = Field(
        "host", description="Links followed: to the seeds' hosts (with or without www), their subdomains too, or any"
    )
    allowed_hosts: tuple[str, ...] = Field((), description="Hosts in scope beside those of the seeds")
    allowed_networks: tuple[str, ...] = Field(
        (), description="Private networks (CIDR) that may be crawled all the same, as 10.1.0.0/16 for an intranet"
    )
    max_depth: int = Field(3, ge=0, le=1_000, description="Links between a seed and a page, at most")
    max_pages: int = Field(1_000, ge=1, le=1_000_000_000, description="Responses kept, at most")
    max_bytes: int = Field(
        10 * GIGABYTE, ge=1, description="Bytes of bodies after which no request begins; those under way still end"
    )
    max_pages_per_host: int = Field(1_000, ge=1, le=1_000_000_000, description="Responses kept of one host, at most")
    max_bytes_per_host: int = Field(GIGABYTE, ge=1, description="Bytes of one host after which no request to it begins")
    max_hosts: int = Field(1_000, ge=1, le=100_000, description="Hosts, at most; about 1 kB of memory each")
    max_urls: int = Field(
        1_000_000, ge=1, le=1_000_000_000, description="URLs remembered, at most; about 300 bytes of disk each"
    )
    max_links_per_page: int = Field(
        1_000, ge=0, le=100_000, description="Links taken from one page, at most, against pages of endless links"
    )
    max_redirects: int = Field(5, ge=0, le=20, description="Redirects in a row, at most")
    max_body_bytes: int = Field(
        4 * MEGABYTE, ge=KILOBYTE, le=256 * MEGABYTE, description="Larger bodies are given up and dropped"
    )
    content_types: tuple[str, ...] = Field(
        ("text/html", "application/xhtml+xml"),
        min_length=1,
        description="Bodies of other media types are not downloaded; a response without a type is",
    )
    connections: int = Field(8, ge=1, le=256, description="Requests at a time, to all hosts")
    connections_per_host: int = Field(1, ge=1, le=8, description="Requests at a time to one host")
    min_delay_seconds: float = Field(
        1.0, ge=0, le=3_600, description="Between the starts of two requests to a host, where robots.txt asks for less"
    )
    max_delay_seconds: float = Field(
        60.0, ge=0, le=86_400, description="A host whose robots.txt asks for a longer delay is not crawled"
    )
    timeout_seconds: float = Field(60.0, ge=0.1, le=3_600, description="Time for one request with its body, at most")
    retries: int = Field(2, ge=0, le=10, description="Further tries after a timeout, a broken answer, 429 or 5xx")
    first_wait_seconds: float = Field(2.0, ge=0, le=600, description="Wait before the first new try; then doubled")
    retry_interrupted: bool = Field(
        False,
        description="Ask again for pages that were under way when a crawl was killed, which the server may have sent "
        "whole; else they are counted as interrupted. Seeds are asked for again in any case",
    )
    file_bytes: int = Field(
        250 * MEGABYTE, ge=10 * KILOBYTE, le=10 * GIGABYTE, description="A WARC file ends before it outgrows this"
    )

    @field_validator("seeds")
    @classmethod
    def _seeds_are_urls(cls, seeds: tuple[str, ...]) -> tuple[str, ...]:
        from pipelines.corpus.crawler.urls import BadUrl, normalised  # loads only where a crawl is configured

        try:
            return tuple(dict.fromkeys(normalised(seed) for seed in seeds))
        except BadUrl as error:
            raise ValueError(
                f"{error.url!r} is no URL to crawl ({error.reason}); give http:// or https:// URLs"
            ) from error

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_are_names(cls, hosts: tuple[str, ...]) -> tuple[str, ...]:
        wrong = next((host for host in hosts if not host or set(host) & set("/:@ *")), None)
        if wrong is not None:
            raise ValueError(f"{wrong!r} is no host; give bare names, as docs.example.org")
        return tuple(host.lower().rstrip(".") for host in hosts)

    @field_validator("allowed_networks")
    @classmethod
    def _networks_are_networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(str(ipaddress.ip_network(network)) for network in networks)

    def roots(self) -> Mapping[str, Root]:
        """Return the crawl as an input pinned by its name."""
        return {"crawl": NamedRoot(self.crawl_id)}


class CommonCrawlSource(Source):
    """Files of one of Common Crawl's crawls, which never change once they are published."""

    model_config = ConfigDict(title="Common Crawl")
    runtime: ClassVar[frozenset[str]] = frozenset(
        {"range_bytes", "max_file_bytes", "retries", "first_wait_seconds", "max_wait_seconds", "timeout_seconds"}
    )
    kind: Literal["commoncrawl"] = Field("commoncrawl", description="WARC or WET files of Common Crawl, by crawl id")
    crawl: str = Field(pattern=CRAWL_NAME, description="Crawl id, as CC-MAIN-2026-30")
    format: Literal["warc", "wet"] = Field("warc", description="Responses (warc), or text already extracted (wet)")
    segment: str | None = Field(
        None, pattern=r"^[0-9]+\.[0-9]+$", description="Only files of this segment, as 1770000000000.12"
    )
    paths: tuple[str, ...] = Field(
        (), description="Files by their paths as the crawl's list gives them; the list is then not asked for"
    )
    max_files: int | None = Field(1, ge=1, description="First files of the list, at most; none is all (about 100,000)")
    base_url: str = Field(
        "https://data.commoncrawl.org",
        pattern=r"^[a-z0-9]+://\S*$",
        description="Where the crawls are: the site, a mirror, or s3://commoncrawl where s3fs is installed",
    )
    range_bytes: int = Field(
        64 * MEGABYTE, ge=1_024, le=10 * GIGABYTE, description="Bytes asked for at a time; what is there stays"
    )
    max_file_bytes: int = Field(8 * GIGABYTE, ge=1_024, description="A larger file is refused; real ones are near 1 GB")
    retries: int = Field(8, ge=0, le=100, description="Further tries without a byte of progress")
    first_wait_seconds: float = Field(1.0, ge=0, le=600, description="Wait before the first new try; then doubled")
    max_wait_seconds: float = Field(300.0, ge=0, le=3_600, description="Longest wait before a try")
    timeout_seconds: float = Field(60.0, ge=0.1, le=3_600, description="Longest silence of the server")

    @model_validator(mode="after")
    def _paths_are_of_the_crawl(self) -> Self:
        for path in self.paths:
            if not self.is_path(path):
                raise ValueError(
                    f"paths: {path!r} is no {self.format} file of {self.crawl}; copy lines of its "
                    f"{self.format}.paths.gz, as crawl-data/{self.crawl}/segments/.../{self.format}/NAME{self.suffix}"
                )
        if self.paths and self.segment:
            raise ValueError("segment and paths both choose files; give one of them")
        return self

    @property
    def suffix(self) -> str:
        """How the names of its files end."""
        return ".warc.gz" if self.format == "warc" else ".warc.wet.gz"

    @property
    def listing(self) -> str:
        """Return the path of the crawl's list of files."""
        return f"crawl-data/{self.crawl}/{self.format}.paths.gz"

    def is_path(self, path: str) -> bool:
        """Say whether this is the path of a file of the crawl: no other place can be asked for by a list."""
        plain = path.isascii() and path.isprintable() and not set(path) & set(' ?#%\\"<>')
        here = path.startswith(f"crawl-data/{self.crawl}/segments/") and path.endswith(self.suffix)
        return plain and here and not {"", ".", ".."} & set(path.split("/"))

    def roots(self) -> Mapping[str, Root]:
        """Return the crawl as an input pinned by its id; which of its files are read is in the identity."""
        return {"crawl": NamedRoot(self.crawl)}

    def files(self) -> dict[str, Path]:
        """Raise UserError: which files there are is asked of the crawl when its stage runs."""
        raise UserError(f"ingest.source: the files of {self.crawl} are listed while it is read; run the ingest stage")

    def cut(self, name: str, path: Path, shard_bytes: int) -> Iterable[Sized]:
        """Return a file as a shard of its own, which is fetched when its turn comes."""
        return [(Slice(name, path), shard_bytes)]

    def records(self, piece: Slice, limits: Limits) -> Iterator[Record | Dropped]:
        """Yield what a file holds, which is fetched first."""
        from pipelines.corpus.crawler.commoncrawl import fetch_file
        from pipelines.corpus.readers.crawl_pages import crawl_pages
        from pipelines.corpus.readers.wet import wet_records

        index, out = int(piece.path.name.partition(".")[0]), piece.path.parents[2]  # as `chosen_files` named it
        fetch_file(self, index, piece.name, piece.path, out)
        yield from (wet_records if self.format == "wet" else crawl_pages)(piece.path, limits)
