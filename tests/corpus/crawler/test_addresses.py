"""No request goes to an address that is not public, whatever a page, a redirect or a name server says."""

import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest

from pipelines.corpus.crawler.addresses import AddressRefused, Guard
from pipelines.corpus.crawler.fetching import trusted
from tests.corpus.crawler.conftest import Result
from tests.corpus.crawler.site import Reply, html, redirect, serving

Crawling = Callable[..., Result]
PRIVATE = [
    *("127.0.0.1", "127.8.8.8", "10.0.0.1", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0"),  # noqa: S104
    *("224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255", "192.0.2.1", "198.18.0.1", "203.0.113.1"),
    *("::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1", "ff02::1", "fec0::1", "2001:db8::1", "::127.0.0.1"),
    *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254"),
    *("64:ff9b::127.0.0.1", "64:ff9b::a00:1", "64:ff9b:1::1", "2002:7f00:1::", "2002:a00:1::1", "2001::1"),
]
PUBLIC = ["1.1.1.1", "93.184.215.14", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101", "2002:101:101::1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_public_are_refused(address: str) -> None:
    with pytest.raises(AddressRefused, match="not a public address"):
        Guard(()).check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_let_through(address: str) -> None:
    Guard(()).check(address)


@pytest.mark.parametrize("address", ["127.1", "2130706433", "0x7f000001", "localhost", ""])
def test_what_is_no_plain_address_is_refused(address: str) -> None:
    with pytest.raises(AddressRefused):
        Guard(()).check(address)


def test_networks_that_the_config_names_are_let_through_and_no_others() -> None:
    guard = Guard(("10.1.0.0/16", "fd12::/16"))
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "64:ff9b::a01:203", "fd12::5"):
        guard.check(address)
    for address in ("10.2.0.1", "127.0.0.1", "fd13::1"):
        with pytest.raises(AddressRefused):
            guard.check(address)


def test_the_socket_of_a_connection_is_checked_once_more() -> None:
    with pytest.raises(AddressRefused):
        Guard(()).open_socket((socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 80)))


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("http://127.0.0.9:{port}/secret", "private_address"),
        ("http://169.254.169.254/latest/meta-data", "private_address"),
        ("http://[::1]:{port}/secret", "private_address"),
        ("http://[::ffff:127.0.0.9]:{port}/secret", "private_address"),
        ("http://inner.example:{port}/secret", "private_address"),
        ("http://mixed.example:{port}/secret", "private_address"),
        ("http://2130706434:{port}/secret", "private_address"),
        ("http://127.2:{port}/secret", "private_address"),
        ("http://0x7f.2:{port}/secret", "private_address"),
        ("file:///etc/passwd", "redirect_bad_scheme"),
        ("ftp://127.0.0.1/secret", "redirect_bad_scheme"),
        ("http://user:word@127.0.0.1:{port}/secret", "redirect_credentials"),
        ("http://127.0.0.1:99999/secret", "redirect_bad_url"),
    ],
)
def test_a_redirect_to_where_a_crawl_must_not_go_is_refused(crawling: Crawling, target: str, reason: str) -> None:
    names = {"outer.example": ["127.0.0.1"], "inner.example": ["127.0.0.9"], "mixed.example": ["127.0.0.1", "10.0.0.1"]}

    async def lookup(host: str, port: int) -> list[str]:
        assert not host.replace(".", "").isdigit()
        return names.get(host, ["127.0.0.2"])

    with serving({"/": Reply(html("/go")), "/secret": Reply(html())}, host="0.0.0.0") as site:  # noqa: S104
        site.pages["/go"] = redirect(target.format(port=site.port))
        result = crawling(site.url("/", "outer.example"), scope="any", lookup=lookup)
    assert "/secret" not in site.asked
    assert [row["reason"] for row in result.rows if row["state"] == "dropped"] == [reason]
    assert result.counts["crawl_pages"] == 2


def test_a_name_that_changes_its_address_after_the_check_gains_nothing(crawling: Crawling) -> None:
    answers = iter(["127.0.0.1", "127.0.0.1", "127.0.0.9"])

    async def lookup(host: str, port: int) -> list[str]:
        return [next(answers, "127.0.0.9")]

    with serving({"/": Reply(html("/more"))}) as good, serving({"/more": Reply(html())}, host="127.0.0.9") as bad:
        result = crawling(good.url("/", "rebind.example"), lookup=lookup)
    assert good.asked == ["/robots.txt", "/"]
    assert bad.asked == []
    assert result.counts["dropped.crawl_private_address"] == 1


def test_every_request_asks_for_the_address_anew_and_goes_to_the_one_it_got(crawling: Crawling) -> None:
    asked: list[str] = []

    async def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    with serving({"/": Reply(html("/a")), "/a": Reply(html())}) as site:
        crawling(site.url("/", "name.example"), lookup=lookup)
    assert asked == ["name.example"] * len(site.asked)
    assert set(site.hosts) == {f"name.example:{site.port}"}


def certificate_of(name: str, folder: Path) -> Path:
    """Write a self-signed certificate of a host and its key in one file."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    names = [x509.DNSName(name), x509.IPAddress(ip_address("127.0.0.1"))]
    built = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    built = built.serial_number(1).not_valid_before(now - timedelta(1)).not_valid_after(now + timedelta(9))
    built = built.add_extension(x509.SubjectAlternativeName(names[:1]), critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    signed = built.sign(key, hashes.SHA256())
    path = folder / f"{name}.pem"
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + signed.public_bytes(serialization.Encoding.PEM))
    return path


def test_certificates_are_verified_for_the_name_and_not_the_address(
    crawling: Crawling, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lookup(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    certificate = certificate_of("secure.example", tmp_path)
    with serving({"/": Reply(html())}, certificate=certificate) as site:
        unknown = crawling(site.url("/", "secure.example"), lookup=lookup, out=tmp_path / "unknown")
        assert unknown.counts["crawl_pages"] == 0
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        trusted.cache_clear()
        known = crawling(site.url("/", "secure.example"), lookup=lookup, out=tmp_path / "trusted")
        assert known.kept == [site.url("/", "secure.example")]
        other = crawling(site.url("/", "other.example"), lookup=lookup, out=tmp_path / "other")
        assert other.counts["crawl_pages"] == 0
    trusted.cache_clear()
