"""What an agent accepts as a ping list: all of it or, with the reason, nothing."""

from __future__ import annotations

import json
import random

import pytest
from pingmesh_agent.pinglist import Target, parse_pinglist

TARGET = ["b", "127.0.0.22", 8765, "tcp", "intra_tor", 0]


def parse(told, lab=False):
    return parse_pinglist(json.dumps(told).encode(), lab)


def test_a_good_list_is_taken_whole(pinglist):
    told = parse(
        pinglist(interval_s=10, targets=[TARGET, ["v6", "2001:db8::1", 1, "udp", "inter_dc", 64]])
    )
    assert [target.entry for target in told.targets] == [
        TARGET,
        ["v6", "2001:db8::1", 1, "udp", "inter_dc", 64],
    ]
    assert (told.host, told.interval_s, told.window_s) == ("a", 10.0, 60)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"interval_s": 9.9}, "interval_s 9.9 is not 10.0"),
        ({"interval_s": float("nan")}, "interval_s nan"),
        ({"interval_s": None}, "interval_s None"),
        ({"window_s": 90}, "window_s 90"),
        ({"window_s": 7 * 60}, "window_s 420"),
        ({"probe_port": 0}, "probe_port 0"),
        ({"probe_port": True}, "probe_port True"),
        ({"address": "host.example"}, "'host.example' is not an IP address"),
        ({"address": None}, "address None"),
        ({"timeout_s": 0}, "timeout_s 0"),
        ({"lease_s": -1}, "lease_s -1"),
        ({"targets": {}}, "targets"),
        ({"targets": [TARGET] * 20_001}, "20000"),
        ({"targets": [TARGET, ["b"]]}, "target 1"),
        ({"targets": [7]}, "target 0"),
        ({"targets": [[*TARGET[:1], "1.2.3", *TARGET[2:]]]}, "target 0: address '1.2.3'"),
        ({"targets": [[*TARGET[:2], 65536, *TARGET[3:]]]}, "port 65536"),
        (
            {"targets": [[*TARGET[:3], "gopher", *TARGET[4:]]]},
            "protocol 'gopher': known are tcp, tcp_echo, udp",
        ),
        ({"targets": [[*TARGET[:3], [], *TARGET[4:]]]}, "protocol"),
        ({"targets": [[*TARGET[:5], "big"]]}, "payload_bytes"),
        ({"targets": [[None, *TARGET[1:]]]}, "name"),
    ],
)
def test_a_bad_value_is_named(pinglist, changes, reason):
    with pytest.raises(ValueError) as refused:
        parse(pinglist(**{"interval_s": 10, **changes}))
    assert reason in str(refused.value)


def test_the_lab_may_probe_faster(pinglist):
    assert parse(pinglist(interval_s=0.1), lab=True).interval_s == 0.1


@pytest.mark.parametrize(
    ("protocol", "asked", "sent"),
    [
        ("tcp", 64, 0),
        ("tcp_echo", 0, 16),
        ("tcp_echo", 10**6, 65536),
        ("udp", 64, 64),
        ("udp", 9000, 1400),
    ],
)
def test_the_table_says_the_payload_that_is_really_sent(protocol, asked, sent):
    assert Target(["b", "127.0.0.22", 1, protocol, "intra_tor", asked]).entry[5] == sent


@pytest.mark.parametrize(
    "text", [b"", b"\0", b"[]", b"{}", b"null", b'{"version":', b"\xff\xfe", b"[" * 100_000]
)
def test_garbage_is_refused_not_followed(text):
    with pytest.raises(ValueError):
        parse_pinglist(text)


def test_no_damage_to_a_list_raises_anything_but_a_refusal(pinglist):
    text = json.dumps(pinglist(interval_s=10, targets=[TARGET] * 3)).encode()
    chance, refused = random.Random(7), 0
    for _ in range(2000):
        damaged = bytearray(text)
        for _ in range(chance.randint(1, 4)):
            damaged[chance.randrange(len(damaged))] = chance.randrange(256)
        try:
            parse_pinglist(bytes(damaged))
        except ValueError:
            refused += 1
    assert 1500 < refused < 2000  # the rest was damaged in a name, which may be anything


def test_names_with_odd_characters_do_not_break_the_log(mesh, pinglist):
    odd = "x\n\x1b[31m'\"\udc80; $(reboot)"
    a = mesh.add(pinglist(version=odd, targets=[[odd, "127.0.0.22", 1, "tcp", odd, 0]]))
    mesh.pass_time(2)
    a.log(odd)
    log = (mesh.root / "a" / "agent.log").read_text()
    assert len(log.splitlines()) == 3
    assert log.isascii()
    assert "\x1b" not in log
