"""The bounds that protect a host: the figures that were promised, and each at its edge."""

from __future__ import annotations

import itertools
import resource
from pathlib import Path

import pytest
from pingmesh_agent import limits, outcomes, ports
from pingmesh_agent import resources as resources_module
from pingmesh_agent.limits import MEMORY_CAP_BYTES
from pingmesh_agent.pinglist import Target, parse_pinglist
from pingmesh_agent.ports import SourcePorts, ephemeral_ports
from pingmesh_agent.prober import in_share, shuffled
from pingmesh_agent.resources import descriptor_limit, next_share, resident_bytes

from pingmesh_tasks.latency.summary import CODES
from tests.agent.test_pinglist import TARGET, parse


def test_the_bounds_are_those_that_were_measured_and_promised():
    promised = {
        "TICK_S": 0.04,
        "CHUNK_US": 10_000_000,
        "NICE": 10,
        "MIN_INTERVAL_S": 10.0,
        "LATE_S": 0.25,
        "MAX_PROBES_PER_S": 1000,
        "MAX_TARGETS": 20_000,
        "MAX_PINGLIST_BYTES": 16 << 20,
        "MAX_IN_FLIGHT": 4096,
        "RESERVED_FDS": 32,
        "PORT_REST_MS": 1000,
        "DRAIN_S": 5.0,
        "EVENTS_PER_TICK": 512,
        "DATAGRAMS_PER_TICK": 256,
        "ACCEPTS_PER_TICK": 64,
        "MAX_CONNECTIONS": 128,
        "CONNECTION_S": 5.0,
        "MEMORY_CAP_BYTES": 64 << 20,
        "MEMORY_LADDER": (1.0, 0.5, 0.25, 0.1),
        "MAX_PENDING_ROWS": 100_000,
        "MAX_PENDING_WINDOWS": 12,
        "MAX_LOG_BYTES": 256 << 10,
    }
    assert {name: value for name, value in vars(limits).items() if name.isupper()} == promised


def test_the_status_codes_are_those_that_the_tables_read():
    assert CODES == {
        "answered": (outcomes.OK,),
        "lost": (outcomes.TIMEOUT, outcomes.NO_ECHO),
        "refused": (outcomes.REFUSED,),
        "unreachable": (outcomes.HOST_UNREACHABLE, outcomes.NET_UNREACHABLE),
        "reset": (outcomes.RESET,),
        "bad_reply": (outcomes.BAD_REPLY,),
    }
    assert (outcomes.LOCAL_ERROR, outcomes.TOO_BIG, outcomes.PENDING) == (7, 9, -1)


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        ({"interval_s": 10}, True),
        ({"interval_s": 86_400}, True),
        ({"interval_s": 86_401}, False),
        ({"window_s": 59}, False),
        ({"window_s": 120}, True),
        ({"window_s": 86_400}, True),
        ({"window_s": 172_800}, False),
        ({"timeout_s": 0.05}, True),
        ({"timeout_s": 0.049}, False),
        ({"timeout_s": 60}, True),
        ({"timeout_s": 60.5}, False),
        ({"lease_s": 1}, True),
        ({"lease_s": 0.9}, False),
        ({"lease_s": 1e9}, True),
        ({"lease_s": 1.1e9}, False),
        ({"probe_port": 1}, True),
        ({"probe_port": 65_535}, True),
        ({"probe_port": 65_536}, False),
        ({"spool_max_bytes": 0, "spool_keep_s": 0}, True),
        ({"spool_max_bytes": -1}, False),
        ({"spool_max_bytes": 1e15, "spool_keep_s": 1e9}, True),
        ({"spool_max_bytes": 2e15}, False),
        ({"spool_keep_s": -1}, False),
        ({"spool_keep_s": 2e9}, False),
        ({"host": "h" * 255}, True),
        ({"host": "h" * 256}, False),
        ({"targets": [TARGET] * 20_000}, True),
        ({"targets": [["n" * 500, *TARGET[1:4], "s" * 11, 0]]}, True),
        ({"targets": [["n" * 500, *TARGET[1:4], "s" * 12, 0]]}, False),
        ({"targets": [[*TARGET[:2], 1, *TARGET[3:]]]}, True),
        ({"targets": [[*TARGET[:2], 65_535, *TARGET[3:]]]}, True),
        ({"targets": [[*TARGET[:2], 0, *TARGET[3:]]]}, False),
        ({"targets": [[*TARGET[:2], True, *TARGET[3:]]]}, False),
        ({"targets": [[*TARGET[:4], None, 0]]}, False),
    ],
)
def test_a_value_at_its_bound_is_accepted_and_one_beyond_is_not(pinglist, changes, accepted):
    told = pinglist(**{"interval_s": 10, **changes})
    if accepted:
        for name, value in changes.items():
            key = {"probe_port": "port"}.get(name, name)
            if name != "targets":
                assert getattr(parse(told), key) == value
        assert len(parse(told).targets) == len(told["targets"])
    else:
        with pytest.raises(ValueError):
            parse(told)


def test_the_lab_has_a_bound_too(pinglist):
    assert parse(pinglist(interval_s=0.05), lab=True).interval_s == 0.05
    with pytest.raises(ValueError, match=r"interval_s 0\.04 is not 0\.05"):
        parse(pinglist(interval_s=0.04), lab=True)


def test_a_list_larger_than_its_bound_is_cut_and_so_rejected(mesh, pinglist, monkeypatch, tell):
    a = mesh.add(pinglist())
    monkeypatch.setattr("pingmesh_agent.pinglist.MAX_PINGLIST_BYTES", 100)
    tell(mesh.root / "a", pinglist(version="second"))
    mesh.pass_time(1.5)
    assert a.pinglist.version == "0123456789abcdef"
    assert "not JSON" in (mesh.root / "a" / "agent.log").read_text()


def test_an_address_of_either_family_is_known():
    assert [
        Target(["b", address, 1, "tcp", "x", 0]).family for address in ("10.0.0.1", "2001:db8::1")
    ] == [2, 10]
    with pytest.raises(ValueError, match="not an IP address"):
        parse_pinglist(b'{"version": "x", "host": "a", "address": "a.example"}')


@pytest.mark.parametrize(
    ("share", "rss_mb", "expected"),
    [
        (1.0, 57.5, 1.0), (1.0, 57.7, 0.5), (0.5, 57.7, 0.25), (0.25, 63, 0.1), (0.1, 63, 0.1),
        (0.5, 43.3, 0.5), (0.5, 43.1, 1.0), (0.1, 10, 0.25), (1.0, 10, 1.0), (0.25, 50, 0.25),
    ],
)  # fmt: skip
def test_the_memory_ladder_goes_down_at_90_percent_and_up_at_two_thirds(share, rss_mb, expected):
    assert next_share(share, int(rss_mb * 2**20)) == expected
    assert next_share(1.0, int(0.9 * MEMORY_CAP_BYTES)) == 0.5
    assert next_share(0.5, int(0.675 * MEMORY_CAP_BYTES)) == 1.0


def test_resident_memory_is_what_the_kernel_shows():
    [line] = [
        line
        for line in Path("/proc/self/status").read_text().splitlines()
        if line.startswith("VmRSS")
    ]
    assert resident_bytes() == pytest.approx(int(line.split()[1]) << 10, rel=0.2)


@pytest.mark.parametrize(
    ("soft", "hard", "raised", "limit"),
    [
        (1024, 524_288, (8192, 524_288), 8192),
        (1024, 4096, (4096, 4096), 4096),
        (1024, resource.RLIM_INFINITY, (8192, resource.RLIM_INFINITY), 8192),
        (8192, 524_288, None, 8192),
        (100_000, 524_288, None, 8192),
        (256, 256, None, 256),
        (resource.RLIM_INFINITY, resource.RLIM_INFINITY, None, 8192),
    ],
)
def test_the_limit_of_open_files_is_raised_as_far_as_needed_and_allowed(
    monkeypatch, soft, hard, raised, limit
):
    calls = []
    monkeypatch.setattr(resources_module.resource, "getrlimit", lambda _: (soft, hard))
    monkeypatch.setattr(resources_module.resource, "setrlimit", lambda _, pair: calls.append(pair))
    assert descriptor_limit() == limit
    assert calls == ([raised] if raised else [])


@pytest.mark.parametrize(
    ("files", "in_flight", "connections"), [(8192, 4096, 128), (256, 160, 32), (40, 8, 5)]
)
def test_sockets_are_a_share_of_the_open_files(
    mesh, pinglist, monkeypatch, files, in_flight, connections
):
    monkeypatch.setattr("pingmesh_agent.agent.descriptor_limit", lambda: files)
    a = mesh.add(pinglist())
    assert (a.prober.max_in_flight, a.responder.max_connections) == (in_flight, connections)


def test_a_share_is_spread_evenly():
    assert all(in_share(number, 1.0) for number in range(100))
    assert [number for number in range(12) if in_share(number, 0.25)] == [3, 7, 11]
    assert sum(in_share(number, 0.1) for number in range(1000)) == 100


def test_an_order_is_any_permutation():
    assert list(shuffled(0)) == [] and list(shuffled(1)) == [0]
    assert {tuple(shuffled(3)) for _ in range(500)} == set(itertools.permutations(range(3)))
    assert sorted(shuffled(2500)) == list(range(2500))


def test_source_ports_are_swept_in_order_from_a_random_one():
    sweep = SourcePorts(50_000, 50_003)
    first = sweep.take(0)
    assert [sweep.take(0) for _ in range(3)] == [
        50_000 + (first - 50_000 + step) % 4 for step in (1, 2, 3)
    ]
    assert sweep.take(999) == 0
    assert sweep.take(1000) == first
    assert {SourcePorts(50_000, 50_003).take(0) for _ in range(200)} == {
        50_000,
        50_001,
        50_002,
        50_003,
    }
    assert SourcePorts(7, 7).take(0) == 7


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"32768\t60999\n", (32_768, 49_151)),
        (b"1024 65535", (1024, 17_407)),
        (b"50000 50010", (50_000, 50_010)),
        (b"nonsense", (32_768, 49_151)),
        (None, (32_768, 49_151)),
    ],
)
def test_source_ports_are_of_the_range_where_no_service_listens(
    monkeypatch, tmp_path, text, expected
):
    file = tmp_path / "range"
    if text is not None:
        file.write_bytes(text)
    monkeypatch.setattr(ports, "open", lambda path, mode: file.open(mode), raising=False)
    assert ephemeral_ports() == expected
