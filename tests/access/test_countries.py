import builtins

import pytest

from pingmesh_tasks.access.countries import LOCAL, UNKNOWN, Countries
from pingmesh_tasks.errors import ConfigError


def nobody(addresses):
    return [None] * len(addresses)


def test_the_operators_networks_come_first_and_the_longest_prefix_wins():
    countries = Countries({"10.0.0.0/8": "DE", "10.1.0.0/16": "CN", "10.1.2.3/32": "FR", "2001:db8::/32": "IT"}, nobody)
    asked = ["10.9.9.9", "10.1.9.9", "10.1.2.3", "2001:db8::1", "8.8.8.8"]
    assert countries.of(asked) == ["DE", "CN", "FR", "IT", UNKNOWN]


def test_a_default_route_of_one_family_leaves_the_other_alone():
    assert Countries({"0.0.0.0/0": "US"}, nobody).of(["8.8.8.8", "2a00::1", "::1", "::ffff:8.8.8.8"]) == [
        "US",
        UNKNOWN,
        LOCAL,
        "US",
    ]


def test_an_address_of_no_public_network_is_local_and_nobody_is_asked():
    def never(addresses):
        raise AssertionError(addresses)

    local = ["127.0.0.1", "10.1.2.3", "192.168.1.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "fd00::1", "100.64.0.1"]
    assert Countries(registry=never).of(local) == [LOCAL] * len(local)


NO_ADDRESS = ["", "localhost", "1.2.3", "1.2.3.4.5", "999.1.1.1", "<b>", "\\x00", "9" * 5_000, "::g"]


@pytest.mark.parametrize("text", NO_ADDRESS)
def test_what_is_no_address_is_unknown(text):
    assert Countries(registry=nobody).of([text]) == [UNKNOWN]


def test_the_registry_is_asked_once_for_a_batch_and_answers_in_order():
    batches = []

    def registry(addresses):
        batches.append(addresses)
        return [{"8.8.8.8": "US", "1.0.16.1": "JP"}.get(address) for address in addresses]

    answer = Countries({"9.9.9.0/24": "CH"}, registry).of(
        ["1.0.16.1", "9.9.9.9", "::ffff:8.8.8.8", "x", "2a00::1%eth0"]
    )
    assert answer == ["JP", "CH", "US", UNKNOWN, UNKNOWN]
    assert batches == [["1.0.16.1", "8.8.8.8", "2a00::1"]]


def test_a_network_with_host_bits_is_refused():
    with pytest.raises(ConfigError, match="host bits"):
        Countries({"10.1.2.3/8": "DE"})


def test_without_the_package_the_error_says_what_to_install_and_what_to_write_instead(monkeypatch):
    def importing(name, *args, **kwargs):
        if name == "iptocc":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", importing)
    assert Countries({"8.8.8.0/24": "US"}).of(["8.8.8.8", "127.0.0.1"]) == ["US", LOCAL]
    with pytest.raises(ConfigError, match=r"pip install iptocc.*inventory"):
        Countries().of(["8.8.8.8"])


def test_the_packages_own_data_know_well_known_networks_of_both_families():
    asked = ["8.8.8.8", "202.127.204.1", "130.246.1.1", "193.0.6.139", "2001:da8::1", "127.0.0.1"]
    assert Countries().of(asked) == ["US", "CN", "GB", "NL", "CN", LOCAL]
