"""Which addresses may be talked to, and how URLs are read."""

import pytest

from amodal_model.errors import InputError
from amodal_service.address_guard import AddressGuard, is_public, parse_url


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "172.31.255.255"),  # noqa: S104
        *("192.168.1.1", "169.254.169.254", "100.64.0.1", "192.0.0.8", "192.0.2.1", "198.18.0.1"),
        *("198.51.100.1", "203.0.113.9", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
        *("::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "fec0::1", "ff02::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:a9fe:a9fe", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::", "2001:db8::1"),
        *("2002:a00:1::1", "2001:0:0:0:0:0:80ff:fffe", "100::1", "not an address", ""),
    ],
)
def test_what_only_this_machine_or_network_reaches_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address",
    ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_what_everybody_reaches_is_public(address: str) -> None:
    assert is_public(address)


def test_one_address_that_is_not_public_refuses_the_name() -> None:
    guard = AddressGuard(resolve=lambda host, port: ["1.1.1.1", "10.0.0.1"])
    with pytest.raises(InputError, match=r"host 'a\.example' has the address 10\.0\.0\.1, which"):
        guard.addresses("a.example", 80)


def test_an_allowed_host_may_have_any_address_and_no_other_host() -> None:
    guard = AddressGuard(frozenset({"store.lan"}), lambda host, port: ["10.0.0.1"])
    assert guard.addresses("Store.LAN", 80) == ["10.0.0.1"]
    with pytest.raises(InputError, match="not public"):
        guard.addresses("10.0.0.1", 80)


@pytest.mark.parametrize(
    "host", ["localhost", "127.1", "2130706433", "0x7f.1", "017700000001", "0", "127.0.0.1"]
)
def test_other_ways_to_write_this_machine_are_seen_through(host: str) -> None:
    with pytest.raises(InputError, match=r"not public|cannot be resolved"):
        AddressGuard().addresses(host, 80)


def test_a_name_that_does_not_exist_is_an_input_error() -> None:
    for host in ("does-not-exist.invalid", "a" * 70 + ".example", ".."):
        with pytest.raises(InputError, match="cannot be resolved"):
            AddressGuard().addresses(host, 80)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a.example/x", "of the kind 'ftp', must be http or https"),
        ("file:///etc/passwd", "of the kind 'file'"),
        ("//a.example/x", "of the kind ''"),
        ("http:///x", "needs a host"),
        ("http://user@a.example/", "may not hold a user name"),
        ("http://1.1.1.1@127.0.0.1/", "may not hold a user name"),
        ("http://a.example:99999/", "cannot be read"),
        ("http://[::1/", "cannot be read"),
        ("http://a.example/\r\nX: 1", "a character that no URL may hold"),
        ("http://a.example\\@b.example/", "a character that no URL may hold"),
        ("http://ä.example/", "a character that no URL may hold"),
        ("http://a.example/" + "x" * 2048, r"has 2065 characters, limit 2048"),
    ],
)
def test_a_url_that_is_not_plain_is_refused(url: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_url(url)


def test_a_url_keeps_its_port_path_and_query() -> None:
    parsed = parse_url("https://A.example:8443/a%20b.mp4?x=1&y#part")
    assert (parsed.scheme, parsed.host, parsed.port) == (b"https", b"a.example", 8443)
    assert parsed.target == b"/a%20b.mp4?x=1&y"
