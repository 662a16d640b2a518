"""Ping lists: who probes whom.

A plan follows from the inventory and a policy alone: the same two give the same lists on every machine, in whatever
order the hosts were written. With topology there are three levels, as in Microsoft's Pingmesh (SIGCOMM 2015, §3.3):

    intra_tor   every other server of the rack
    intra_dc    between racks of a DC, server i ↔ server i: one peer in each other rack; where that rack is shorter,
                its servers take turns (i modulo its length), so that nobody is left out
    inter_dc    k servers of each podset probe the chosen servers of every other DC

Without topology all hosts count as one rack: everyone probes everyone while that fits the budget, beyond it each
host probes `ring_peers` others and is probed by as many (`ring_offsets`).

What is stored is the plan, inventory and policy (`plan_document`), never the lists: 2 500 × 2 499 targets follow
from 200 kB. Invariants: no host probes itself; no target is there twice; a target is one object in all lists.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, get_args

import polars as pl

from pingmesh_tasks.errors import ConfigError, InventoryError, PinglistError
from pingmesh_tasks.topology.inventory import Host, Inventory, canonical_json
from pingmesh_tasks.windows import SECONDS_PER_DAY

Protocol = Literal["tcp", "tcp_echo", "udp"]
#: Payload of an echo probe where the policy names none.
DEFAULT_ECHO_BYTES = 64
#: What the agent can do; it would clamp or skip what is beyond, so a plan that asks for more is refused.
ECHO_BYTES = {"tcp_echo": (16, 65_535), "udp": (16, 1_400)}
AGENT_MAX_TARGETS = 20_000
AGENT_MAX_PROBES_PER_S = 1_000
_PLAN_FORMAT = 1
_VERSION_DIGITS = 16


@dataclass(frozen=True, slots=True)
class PinglistPolicy:
    """How a fleet is probed. Raises ConfigError that names every field that cannot work.

    `payload_bytes` 0 is none for `tcp` and 64 for the echo protocols. `budget_probes_per_s` is for the whole fleet.
    """

    protocol: Protocol = "tcp"
    payload_bytes: int = 0
    interval_s: float = 10.0
    window_s: int = 300
    timeout_s: float = 3.0
    lease_s: int = 900
    spool_max_bytes: int = 256 * 2**20
    spool_keep_s: int = 86_400
    inter_dc_hosts_per_podset: int = 2
    max_peers_per_host: int = 2_500
    ring_peers: int = 100
    budget_probes_per_s: int = 1_000_000

    def __post_init__(self) -> None:
        for name in ("interval_s", "timeout_s"):  # 10 and 10.0 are one policy, so they must be one JSON
            object.__setattr__(self, name, float(getattr(self, name)))
        if faults := [
            f"{name} {getattr(self, name)!r} {rule}" for name, rule in (*self._probe_faults(), *self._plan_faults())
        ]:
            raise ConfigError("the ping list policy cannot work: " + "; ".join(faults))

    def _probe_faults(self) -> Iterable[tuple[str, str]]:
        """Yield each field of a single probe that cannot work, and what is wrong with it."""
        if self.protocol not in get_args(Protocol):
            yield "protocol", f"is none of {', '.join(get_args(Protocol))}"
        least, most = ECHO_BYTES.get(self.protocol, (0, 0))
        if self.payload_bytes and not least <= self.payload_bytes <= most:
            bounds = f"is not in {least} … {most}" if most else "does not go with a probe that only connects"
            yield "payload_bytes", f"{bounds}; write 0 for the default, or another protocol"
        if not 0.05 <= self.interval_s <= SECONDS_PER_DAY:
            yield "interval_s", "is not in 0.05 … 86400; write 10"
        if not 0.05 <= self.timeout_s <= min(60, self.interval_s):
            yield "timeout_s", f"is not in 0.05 … {min(60, self.interval_s):g}, interval_s at most"

    def _plan_faults(self) -> Iterable[tuple[str, str]]:
        """Yield each field of the windows, the spool and the size of the plan that cannot work."""
        if self.window_s < self.interval_s:
            yield "window_s", f"is less than interval_s, {self.interval_s:g}: a window would have no probe"
        if self.lease_s <= self.window_s:
            yield "lease_s", f"is not above window_s: agents would stop between two runs; write {3 * self.window_s}"
        if self.spool_keep_s < self.window_s:
            yield "spool_keep_s", f"is less than window_s, {self.window_s}: segments would go before they are collected"
        for name in ("spool_max_bytes", "inter_dc_hosts_per_podset", "ring_peers", "budget_probes_per_s"):
            if getattr(self, name) < 1:
                yield name, "is less than 1"
        if not 1 <= self.max_peers_per_host <= AGENT_MAX_TARGETS:
            yield "max_peers_per_host", f"is not in 1 … {AGENT_MAX_TARGETS}"

    @property
    def probe_bytes(self) -> int:
        """Payload of one probe, bytes."""
        return self.payload_bytes or (0 if self.protocol == "tcp" else DEFAULT_ECHO_BYTES)

    @property
    def most_peers(self) -> int:
        """Peers that one host can have: what the policy allows, and what its agent can send in an interval."""
        return min(self.max_peers_per_host, int(AGENT_MAX_PROBES_PER_S * self.interval_s))


DEFAULT_POLICY = PinglistPolicy()


@dataclass(frozen=True, slots=True)
class Target:
    """One destination of one source. `scope` is intra_tor, intra_dc or inter_dc."""

    name: str
    address: str
    port: int
    protocol: str
    scope: str
    payload_bytes: int = 0
    #: The target's row in a document: written once, although thousands of lists share the target.
    _json: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        row = [self.name, self.address, self.port, self.protocol, self.scope, self.payload_bytes]
        object.__setattr__(self, "_json", canonical_json(row))


@dataclass(frozen=True, slots=True)
class PingList:
    """What one agent is told: all it needs to run."""

    host: str
    address: str
    probe_port: int
    interval_s: float
    window_s: int
    targets: tuple[Target, ...]
    timeout_s: float = DEFAULT_POLICY.timeout_s
    lease_s: int = DEFAULT_POLICY.lease_s
    spool_max_bytes: int = DEFAULT_POLICY.spool_max_bytes
    spool_keep_s: int = DEFAULT_POLICY.spool_keep_s

    @property
    def version(self) -> str:
        """Content hash of everything else in the document; costs as much as `document()`."""
        return _digest(self._canonical({}))

    def document(self) -> bytes:
        """Return `pinglist.json` for the agent: canonical JSON, with the version in it."""
        return self._canonical({"version": self.version})

    def _canonical(self, more: dict[str, str]) -> bytes:
        """Return the canonical JSON of the list and `more`, from the targets' ready-made rows."""
        fields: dict[str, Any] = {name: getattr(self, name) for name in _AGENT_FIELDS}
        frame = canonical_json(fields | {"targets": []} | more)
        # Inside a JSON string every quote is escaped, so this can only be the key.
        return frame.replace(b'"targets":[]', b'"targets":[' + b",".join([t._json for t in self.targets]) + b"]")


_AGENT_FIELDS = tuple(name for name in PingList.__dataclass_fields__ if name != "targets")
#: From a host to its targets.
Planner = Callable[[Host], list[Target]]


def plan_pinglists(
    inventory: Inventory, policy: PinglistPolicy = DEFAULT_POLICY, *, sources: Iterable[str] | None = None
) -> dict[str, PingList]:
    """Return the ping list of every host, or of `sources` only; the lists are those of the whole plan either way.

    Raises PinglistError, before anything is expanded, if the plan of the whole fleet is over the probe budget or
    gives a host more peers than it may have; InventoryError if a source is not in the inventory.
    """
    peers_of = _three_levels(inventory, policy) if inventory.has_topology else _one_level(inventory, policy)
    hosts = inventory.hosts if sources is None else inventory.subset(sources).hosts
    return {
        host.name: PingList(
            host=host.name,
            address=host.address,
            probe_port=host.probe_port,
            interval_s=policy.interval_s,
            window_s=policy.window_s,
            targets=tuple(peers_of(host)),
            timeout_s=policy.timeout_s,
            lease_s=policy.lease_s,
            spool_max_bytes=policy.spool_max_bytes,
            spool_keep_s=policy.spool_keep_s,
        )
        for host in hosts
    }


def planned_pairs(lists: Mapping[str, PingList]) -> pl.DataFrame:
    """Return one row a pair: src, dst, protocol, scope, src_ip, dst_ip, dst_port, in the order of the lists.

    80 bytes a row, the texts themselves are shared; a full mesh of 2 500 hosts is best taken in shards.
    """
    targets = {id(target): target for plan in lists.values() for target in plan.targets}
    index = {key: row for row, key in enumerate(targets)}
    what = pl.DataFrame(
        [(t.name, t.protocol, t.scope, t.address, t.port) for t in targets.values()],
        schema={
            "dst": pl.String,
            "protocol": pl.String,
            "scope": pl.String,
            "dst_ip": pl.String,
            "dst_port": pl.UInt16,
        },
        orient="row",
    )
    rows = [pl.Series([index[id(target)] for target in plan.targets], dtype=pl.UInt32) for plan in lists.values()]
    lengths = pl.Series([len(plan.targets) for plan in lists.values()], dtype=pl.UInt32)
    who = pl.DataFrame({"src": list(lists), "src_ip": [plan.address for plan in lists.values()]}, schema=_WHO)
    source = pl.select(
        pl.int_range(len(rows), dtype=pl.UInt32).repeat_by(lengths).explode(empty_as_null=False)
    ).to_series()
    destination = pl.concat(rows) if rows else pl.Series(dtype=pl.UInt32)
    pairs = pl.concat([who[source], what[destination]], how="horizontal")
    return pairs.select("src", "dst", "protocol", "scope", "src_ip", "dst_ip", "dst_port")


_WHO = {"src": pl.String, "src_ip": pl.String}


def plan_document(inventory: Inventory, policy: PinglistPolicy = DEFAULT_POLICY) -> bytes:
    """Return the plan as it is stored: the inventory and the policy that every list follows from."""
    return canonical_json({"v": _PLAN_FORMAT, "inventory": inventory.to_document(), "policy": asdict(policy)})


def plan_version(inventory: Inventory, policy: PinglistPolicy = DEFAULT_POLICY) -> str:
    """Return the content hash of a plan, its name in the bucket."""
    return _digest(plan_document(inventory, policy))


def read_plan(document: bytes) -> tuple[Inventory, PinglistPolicy]:
    """Return what `plan_document` stored. Raises PinglistError if the bytes are none of it."""
    try:
        plan = json.loads(document)
        if plan["v"] != _PLAN_FORMAT:
            raise ValueError(f"format {plan['v']!r}")
        return Inventory.from_document(plan["inventory"], "stored plan"), PinglistPolicy(**plan["policy"])
    except (ValueError, KeyError, TypeError, ConfigError, InventoryError) as error:
        raise PinglistError(f"this is no plan of format {_PLAN_FORMAT} ({error}); run plan_pinglists again") from error


def ring_offsets(hosts: int, peers: int) -> list[int]:
    """Return `peers` different offsets in 1 … hosts - 1: on a ring, host i probes i + each, so in-degree is exact.

    They are the Sidon set 2pj + (j² mod p) of Erdős and Turán (1941), p the least prime ≥ peers: all differences are
    different, so in a ring of more than 4p² hosts two hosts share at most one peer, and a sick host is seen by
    sources that have little else in common. In a smaller ring they wrap around, and gaps fill what collides.
    """
    if not 0 <= peers < hosts:
        raise PinglistError(f"a ring of {hosts} hosts has at most {hosts - 1} peers for each, not {peers}")
    prime = max(peers, 2)
    while any(prime % divisor == 0 for divisor in range(2, math.isqrt(prime) + 1)):
        prime += 1
    spread = (1 + 2 * prime * j + j * j % prime for j in range(peers))
    offsets = dict.fromkeys(1 + (offset - 1) % (hosts - 1) for offset in spread)
    for gap in range(1, hosts):
        if len(offsets) == peers:
            break
        offsets.setdefault(gap)
    return list(offsets)


def _three_levels(inventory: Inventory, policy: PinglistPolicy) -> Planner:
    """Return the planner for an inventory with topology. Everything that lists share is made once, here."""
    racks: dict[tuple[str, str, str], list[Host]] = {}
    for host in inventory.hosts:
        racks.setdefault(host.tor_key, []).append(host)
    racks_of: dict[str, list[list[Host]]] = {}
    for (dc, _, _), rack in racks.items():
        racks_of.setdefault(dc, []).append(rack)
    chosen = {dc: _chosen_hosts(dc_racks, policy.inter_dc_hosts_per_podset) for dc, dc_racks in racks_of.items()}
    chosen_names = {host.name for hosts in chosen.values() for host in hosts}
    far_count = {dc: sum(len(hosts) for other, hosts in chosen.items() if other != dc) for dc in racks_of}

    def counts(host: Host) -> dict[str, int]:
        far = far_count[host.dc] if host.name in chosen_names else 0
        return {"intra_tor": len(racks[host.tor_key]) - 1, "intra_dc": len(racks_of[host.dc]) - 1, "inter_dc": far}

    _check_cost({host.name: counts(host) for host in inventory.hosts}, policy)

    target = _target_maker(policy)
    position = {rack[0].tor_key: at for dc_racks in racks_of.values() for at, rack in enumerate(dc_racks)}
    rank = {host.name: at for rack in racks.values() for at, host in enumerate(rack)}
    near: dict[tuple[str, str, str], list[Target]] = {}
    column: dict[tuple[str, int], list[Target]] = {}
    far: dict[str, list[Target]] = {}

    def peers_of(host: Host) -> list[Target]:
        row, at = rank[host.name], position[host.tor_key]
        if host.tor_key not in near:
            near[host.tor_key] = [target(peer, "intra_tor") for peer in racks[host.tor_key]]
        if (host.dc, row) not in column:
            column[host.dc, row] = [target(rack[row % len(rack)], "intra_dc") for rack in racks_of[host.dc]]
        if host.dc not in far:
            far[host.dc] = [target(peer, "inter_dc") for dc, hosts in chosen.items() if dc != host.dc for peer in hosts]
        own, across = near[host.tor_key], column[host.dc, row]
        peers = own[:row] + own[row + 1 :] + across[:at] + across[at + 1 :]
        return peers + far[host.dc] if host.name in chosen_names else peers

    return peers_of


def _chosen_hosts(racks: list[list[Host]], per_podset: int) -> list[Host]:
    """Return the hosts of a DC that probe other DCs: of each podset the first of each rack, then the second, …"""
    podsets: dict[str, list[tuple[int, int, Host]]] = {}
    for at, rack in enumerate(racks):
        podsets.setdefault(rack[0].podset, []).extend((row, at, host) for row, host in enumerate(rack))
    return [host for hosts in podsets.values() for _, _, host in sorted(hosts, key=lambda h: h[:2])[:per_podset]]


def _one_level(inventory: Inventory, policy: PinglistPolicy) -> Planner:
    """Return the planner for an inventory without topology: full mesh if it fits, else a ring."""
    hosts, target = inventory.hosts, _target_maker(policy)
    total = len(hosts) * (len(hosts) - 1)
    if len(hosts) - 1 <= policy.most_peers and total / policy.interval_s <= policy.budget_probes_per_s:
        everyone = [target(host, "intra_tor") for host in hosts]
        place = {host.name: at for at, host in enumerate(hosts)}
        return lambda host: everyone[: place[host.name]] + everyone[place[host.name] + 1 :]
    peers = min(policy.ring_peers, policy.most_peers, len(hosts) - 1)
    _check_cost({host.name: {"ring": peers} for host in hosts}, policy)
    ring = sorted(hosts, key=lambda host: (hashlib.sha256(host.name.encode()).digest(), host.name))
    seat = {host.name: at for at, host in enumerate(ring)}
    offsets = ring_offsets(len(ring), peers)
    return lambda host: [target(ring[(seat[host.name] + offset) % len(ring)], "intra_tor") for offset in offsets]


def _target_maker(policy: PinglistPolicy) -> Callable[[Host, str], Target]:
    """Return a function that makes one Target for each destination and scope, however many lists it is in."""
    made: dict[tuple[str, str], Target] = {}

    def target(host: Host, scope: str) -> Target:
        if (key := (host.name, scope)) not in made:
            made[key] = Target(host.name, host.address, host.probe_port, policy.protocol, scope, policy.probe_bytes)
        return made[key]

    return target


def _check_cost(counts: Mapping[str, Mapping[str, int]], policy: PinglistPolicy) -> None:
    """Raise PinglistError if the targets by host and level are too many for a host or for the fleet."""
    if not counts:
        return
    name, levels = max(counts.items(), key=lambda item: sum(item[1].values()))
    if sum(levels.values()) > policy.max_peers_per_host:
        advice = {
            "intra_tor": "its ToR is too big: write the real ToRs, or leave the topology out for a ring",
            "intra_dc": "its DC has too many ToRs: split the inventory by DC",
            "inter_dc": "choose fewer inter_dc_hosts_per_podset",
        }[max(levels, key=lambda level: levels[level])]
        told = ", ".join(f"{count} {level}" for level, count in levels.items())
        raise PinglistError(
            f"host {name} would probe {sum(levels.values())} peers ({told}), max_peers_per_host is "
            f"{policy.max_peers_per_host}; {advice}, or raise max_peers_per_host"
        )
    if (peers := sum(levels.values())) > policy.most_peers:
        raise PinglistError(
            f"host {name} would probe {peers} peers every {policy.interval_s:g} s, an agent sends at most "
            f"{AGENT_MAX_PROBES_PER_S} probes/s; set interval_s to {math.ceil(peers / AGENT_MAX_PROBES_PER_S)}"
        )
    total = sum(sum(levels.values()) for levels in counts.values())
    if total / policy.interval_s > policy.budget_probes_per_s:
        needed_s = math.ceil(total / policy.budget_probes_per_s)
        fewer = int(policy.budget_probes_per_s * policy.interval_s / len(counts))
        ring = f", ring_peers to {fewer}" if "ring" in levels and fewer else ""
        raise PinglistError(
            f"{len(counts)} hosts would send {math.ceil(total / policy.interval_s)} probes/s ({total} pairs every "
            f"{policy.interval_s:g} s), budget_probes_per_s is {policy.budget_probes_per_s}; "
            f"set interval_s to {needed_s}{ring}, or raise the budget"
        )


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:_VERSION_DIGITS]
