"""The addresses that a metadata document may make this site connect to."""

from __future__ import annotations

import pytest

from oauth_connect.protocol.net.addresses import AddressGuard, is_public

PUBLIC = [
    "8.8.8.8",
    "93.184.215.14",
    "2606:4700::1111",
    "::ffff:8.8.8.8",
    "64:ff9b::808:808",
    "2002:808:808::",
]
NOT_PUBLIC = [
    *("0.0.0.0", "10.0.0.1", "100.64.0.1", "127.0.0.1", "127.9.9.9", "169.254.169.254", "172.16.0.1"),
    *("192.0.2.1", "192.168.1.1", "198.18.0.1", "224.0.0.1", "239.1.1.1", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "fe80::1", "fe80::1%eth0", "fec0::1", "fc00::1", "fd00:ec2::254", "ff02::1", "ff0e::1"),
    # Services of clouds, also inside other addresses.
    *("168.63.129.16", "::ffff:168.63.129.16", "64:ff9b::a83f:8110", "2002:a83f:8110::", "192.0.0.192"),
    # Addresses that contain another address, and unassigned addresses.
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1"),
    *("2002:7f00:1::", "2001:0:7f00:1::", "2001:db8::1", "4000::1"),
]
REFUSED = [
    "https://localhost/",
    "https://LOCALHOST/",
    "https://localhost./",
    "https://sub.localhost/",
    "https://127.0.0.1/",
    "https://127.1/",
    "https://0/",
    "https://2130706433/",
    "https://0x7f000001/",
    "https://0x7f.1/",
    "https://0177.0.0.1/",
    "https://017700000001/",
    "https://127.0.0.1./",
    "https://127.0.0.0x1/",
    "https://8.8.8.8./",
    "https://169.254.169.254/latest/meta-data/",
    "https://2852039166/",
    "https://10.1.2.3:8443/",
    "https://[::1]/",
    "https://[::]/",
    "https://[::ffff:127.0.0.1]/",
    "https://[::ffff:7f00:1]/",
    "https://[fe80::1%25eth0]/",
    "https://[fd00:ec2::254]/",
    "file:///etc/passwd",
    "gopher://8.8.8.8/",
    "https://user@8.8.8.8/",
    "https://[::1",
    "",
]


@pytest.mark.compliance("A26")
@pytest.mark.parametrize("address", PUBLIC)
def test_an_address_of_the_internet_is_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.compliance("A26")
@pytest.mark.compliance("D51")
@pytest.mark.parametrize("address", NOT_PUBLIC)
def test_an_address_that_only_this_site_can_reach_is_not(address: str) -> None:
    assert not is_public(address)
    assert not AddressGuard().permits("id.example", address)


@pytest.mark.compliance("D51")
@pytest.mark.parametrize("url", REFUSED)
def test_a_url_that_is_private_as_it_is_written_is_refused(url: str) -> None:
    assert AddressGuard().url_problem(url)


@pytest.mark.parametrize(
    "url", ["https://id.example/", "https://8.8.8.8/", "https://[2606:4700::1111]/", "https://1.example/"]
)
def test_any_other_url_is_not(url: str) -> None:
    assert AddressGuard().url_problem(url) == ""


@pytest.mark.parametrize(
    ("named", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000/o"),
        ("LocalHost", "https://localhost/"),
        ("[::1]", "https://[::1]/"),
        ("fd00::1", "https://[fd00::1]/"),
    ],
)
def test_a_host_that_is_named_is_let_through_and_no_other(named: str, url: str) -> None:
    guard = AddressGuard(frozenset({named}))
    assert guard.url_problem(url) == ""
    assert guard.permits(named, "10.0.0.1")
    assert guard.url_problem("https://10.0.0.1/")
    assert not guard.permits("id.example", "127.0.0.1")
