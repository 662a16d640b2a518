"""Who uses the demo's data server, and what for: laboratories, users with their habits, trees and their nodes.

A population is drawn once from a seed and never changes. All of it is invented: names are made of common given and
family names, hosts end in `.example` (RFC 2606), addresses lie in networks that nobody routes (RFC 2544, 5737, 1918).

Where the shapes come from:
- What is popular is Zipf-like: L. Breslau et al., "Web Caching and Zipf-like Distributions", INFOCOM 1999, found
  exponents of 0.64 to 0.83 for requests to web servers. We take 0.8 for trees, nodes and users.
- Assumed, for want of a public study of tokamak data servers: the shares of countries and habits, that a user keeps
  to twelve favourite nodes and returns to one reference shot, and every figure in HABITS.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

ZIPF_EXPONENT = 0.8
FAVOURITES = 12
REFERENCE_SHOTS = 400
_LOCAL_DOMAIN = "example"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Laboratory:
    """Where users sit. `share` of all users; `offset_h` of its clock from UTC; `night` is its activity at 2 o'clock."""

    name: str
    country: str | None
    network: str
    offset_h: float
    share: float
    night: float = 0.1


LABORATORIES = (
    Laboratory("control", "CN", "10.1.0.0/16", 8, 0.08, night=0.7),  # the machine's own control room works in shifts
    Laboratory("site", "CN", "198.18.0.0/20", 8, 0.30),
    Laboratory("campus", "CN", "198.18.16.0/20", 8, 0.10),
    Laboratory("pacific", "US", "198.18.32.0/20", -8, 0.12),
    Laboratory("atlantic", "US", "198.18.48.0/20", -5, 0.07),
    Laboratory("isar", "DE", "198.18.64.0/20", 1, 0.08),
    Laboratory("durance", "FR", "198.18.80.0/20", 1, 0.07),
    Laboratory("thames", "GB", "198.18.96.0/20", 0, 0.05),
    Laboratory("kanto", "JP", "198.18.112.0/20", 9, 0.05),
    Laboratory("hangang", "KR", "198.18.128.0/20", 9, 0.04),
    Laboratory("veneto", "IT", "198.18.144.0/20", 1, 0.02),
    Laboratory("travel", None, "203.0.113.0/24", 8, 0.02),  # no country is known for these
)
#: The country of each laboratory's network: what an operator would write into the inventory.
COUNTRIES = {lab.network: lab.country for lab in LABORATORIES if lab.country}

#: The trees, the most wanted first, each with the subtrees that open and close with it.
TREES = {
    "EAST": ("EAST", "MAG", "ECE"),
    "PCS_EAST": ("PCS_EAST",),
    "EFIT_EAST": ("EFIT_EAST", "AEQDSK"),
    "ANALYSIS": ("ANALYSIS",),
    "ENGINEERING": ("ENGINEERING",),
}
_BRANCHES = ("MAGNETICS", "ECE", "PLASMA", "RADIATION", "NBI", "LHCD", "RESULTS", "COOLING")
_SIGNALS = ("FLUX", "VP", "IP", "TE", "NE", "Q95", "BETAN", "LI", "WMHD", "VLOOP", "DFSDEV", "LMSR", "T", "PCRL")
_TAGS = ("PCRL01", "IP", "VP1", "DENSITY", "BT", "GAS", "ICRF", "WMHD")
NODES_PER_TREE = 96

#: What operations are made of: hook types in order. `search` is a wildcard that matches eight nodes.
OPERATIONS = {
    "open": ("OpenTree",),  # and one per subtree
    "close": ("CloseTree",),  # and one per subtree
    "read": ("GetNci", "GetData"),
    "read_segmented": ("GetNci", "GetData", "GetNci"),
    "read_empty": ("GetNci",),
    "describe": ("GetNci",),
    "search": ("GetNci",) * 8,
    "resolve": (),  # a full path is looked up: the hook is silent
    "put": ("PutData",),
    "append": ("PutData",) * 3,
    "switch": ("PutNci",) * 2,
    "edit": ("OpenTreeEdit", "GetNci", "WriteTree"),
}
#: How often a user of each habit does what, once the tree is open; and the share of users who have the habit.
HABITS: dict[str, tuple[float, dict[str, float]]] = {
    "script": (0.60, {"read": 0.62, "read_segmented": 0.03, "read_empty": 0.20, "describe": 0.10, "resolve": 0.05}),
    "browser": (0.27, {"read": 0.42, "describe": 0.40, "search": 0.015, "read_empty": 0.065, "resolve": 0.10}),
    "writer": (0.10, {"put": 0.40, "append": 0.20, "read": 0.28, "switch": 0.09, "edit": 0.03}),
    "thick": (0.03, {"resolve": 1.0}),  # opens and reads the files by itself: connection lines only
}

_GIVEN = ("li", "wei", "anna", "jun", "marco", "claire", "hiro", "min", "john", "sofia", "ivan", "priya", "tom", "yuki")
_FAMILY = ("wang", "zhang", "liu", "chen", "xu", "sun", "zhao", "smith", "jones", "brown", "muller", "weber", "fischer",
           "dubois", "martin", "leroy", "tanaka", "sato", "kim", "park", "lee", "rossi", "patel", "novak")  # fmt: skip
#: Names as clients really send them: blanks, `@`, brackets, UTF-8, Latin-1, escape codes, nothing at all.
_ODD_NAMES = (
    b"John Smith", b"ops@control", b"a@b@c [1.2.3.4]", "用户".encode(), "zoë".encode(), "café".encode("latin-1"),
    b"%s%n%x", b"x\x1b[31mred\x07", b"", b"?", b"u" * 300, b"back\\slash",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Population:
    """Users as parallel arrays (index: user), nodes and trees as parallel lists.

    `peers` is the `user@host [address]` of a connection line. `trees[u]` are a user's two trees, `favourites[u, i]`
    the nodes wanted of the i-th, the most wanted first. `families[t]` are the tree and its subtrees, padded with -1;
    `wanted[t]` the nodes of that family, the most wanted first.
    """

    names: list[bytes]
    peers: list[bytes]
    addresses: list[str]
    lab: Ints
    habit: Ints
    weight: Floats
    trees: Ints
    favourites: Ints
    reference_shot: Ints
    tree_names: list[str]
    families: Ints
    nodes: list[str]
    node_tree: Ints
    wanted: list[Ints]


def zipf(count: int, exponent: float = ZIPF_EXPONENT) -> Floats:
    """Return the shares of `count` ranks."""
    return _shares(np.arange(1, count + 1) ** -exponent)


def draw_population(users: int, seed: int) -> Population:
    """Return the population of a seed. The first users of two sizes differ; equal arguments give equal populations."""
    rng = np.random.default_rng([seed, users, 1])
    tree_names = list(dict.fromkeys(name for family in TREES.values() for name in family))
    families = np.full((len(TREES), max(map(len, TREES.values()))), -1)
    for row, family in enumerate(TREES.values()):
        families[row, : len(family)] = [tree_names.index(name) for name in family]
    nodes, node_tree = _draw_nodes(tree_names, rng)
    wanted = [rng.permutation(np.flatnonzero(np.isin(node_tree, family))) for family in families]

    lab = rng.choice(len(LABORATORIES), users, p=_shares([lab.share for lab in LABORATORIES]))
    trees = np.stack([rng.choice(len(TREES), users, p=zipf(len(TREES))) for _ in range(2)], axis=1)
    favourites = np.empty((users, 2, FAVOURITES), dtype=np.int64)
    for tree, choice in enumerate(wanted):
        mine = trees == tree
        favourites[mine] = rng.choice(choice, (int(mine.sum()), FAVOURITES), p=zipf(len(choice)))
    names = _draw_names(users, rng)
    hosts = [_draw_host(LABORATORIES[number], users, rng) for number in lab]
    return Population(
        names=names,
        peers=[name + f"@{host} [{address}]".encode() for name, (host, address) in zip(names, hosts, strict=True)],
        addresses=[address for _, address in hosts],
        lab=lab,
        habit=rng.choice(len(HABITS), users, p=_shares([share for share, _ in HABITS.values()])),
        weight=rng.permutation(zipf(users)),
        trees=trees,
        favourites=favourites,
        reference_shot=rng.integers(0, REFERENCE_SHOTS, users),
        tree_names=tree_names,
        families=families,
        nodes=nodes,
        node_tree=node_tree,
        wanted=wanted,
    )


def activity(hour_utc: float) -> Floats:
    """Return how busy each laboratory is, 0 to 1: most at two in its afternoon, `night` at two in its night."""
    offset = np.array([lab.offset_h for lab in LABORATORIES])
    night = np.array([lab.night for lab in LABORATORIES])
    day: Floats = (1 + np.cos((hour_utc + offset - 14) * (2 * np.pi / 24))) / 2
    return night + (1 - night) * day


def _draw_nodes(tree_names: list[str], rng: np.random.Generator) -> tuple[list[str], Ints]:
    """Return full paths, a few of them tags, and the number of the tree that each belongs to."""
    paths: list[str] = []
    for tree in tree_names:
        own = {f"\\{tree}::{tag}" for tag in rng.choice(_TAGS, 4, replace=False)}
        while len(own) < NODES_PER_TREE:
            branch, signal, number = _pick(_BRANCHES, rng), _pick(_SIGNALS, rng), rng.integers(1, 25)
            own.add(
                f"\\{tree}::TOP.{branch}:{signal}{number:02d}" if number > 2 else f"\\{tree}::TOP.{branch}:{signal}"
            )
        paths += sorted(own)
    return paths, np.repeat(np.arange(len(tree_names)), NODES_PER_TREE)


def _draw_names(users: int, rng: np.random.Generator) -> list[bytes]:
    """Return distinct names; about one in a hundred is odd, each odd one at most once."""
    names: dict[bytes, None] = {}
    while len(names) < users:
        if rng.random() < 0.01:
            names[_ODD_NAMES[rng.integers(len(_ODD_NAMES))]] = None
            continue
        given, family, number = _pick(_GIVEN, rng), _pick(_FAMILY, rng), rng.integers(1, 100)
        style = rng.integers(4)
        name = (
            f"{given}.{family}",
            f"{given[0]}{family}{number}",
            f"{given}-{family}{number}",
            f"{family}{number:02d}",
        )
        names[name[style].encode()] = None
    return list(names)


def _draw_host(lab: Laboratory, users: int, rng: np.random.Generator) -> tuple[str, str]:
    """Return (name, address). Some hosts are shared, and some have no name but their address again."""
    network = ipaddress.ip_network(lab.network)
    number = int(rng.integers(1, min(network.num_addresses - 1, max(2, int(users * lab.share)))))
    address = str(network[number])
    return (address if rng.random() < 0.1 else f"ws{number:03d}.{lab.name}.{_LOCAL_DOMAIN}"), address


def _pick(choices: Sequence[str], rng: np.random.Generator) -> str:
    return choices[int(rng.integers(len(choices)))]


def _shares(weights: npt.ArrayLike) -> Floats:
    numbers: Floats = np.asarray(weights, dtype=np.float64)
    total: Floats = numbers / numbers.sum()
    return total
