"""The parts of a network: what can be at fault, and which pairs cross it.

    host      its pairs; those that end at it; those that begin there
    tor       the pairs of its hosts; without those within the rack
    podset    the pairs of its hosts; without those within a rack (its leaves); without those within it (its uplinks)
    tier      `dc1/spine`: pairs between its podsets; with those that leave the DC. `inter_dc`: pairs between DCs
    dc, mesh  everything in it

Sums over all pairs by host and by pair of ToRs are enough to know the sum over any component, so a mesh of millions of
pairs is read once. Where two components are crossed by the same pairs, the first in `components_of` is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.detect.finding import MESH, Scope
from pingmesh_tasks.topology.axis import HostAxis

Floats = NDArray[np.float64]
Ints = NDArray[np.integer[Any]]
Bools = NDArray[np.bool_]

#: From narrow to wide.
WIDTH = {"pair": 0, "host": 1, "tor": 2, "podset": 3, "tier": 4, "dc": 5, "mesh": 6}


def sum_by_host(places: HostAxis, ends: Ints, weights: NDArray[Any] | None = None) -> Floats:
    """Return the sum of `weights` (None: the number of rows) by host position."""
    return np.bincount(ends, weights, minlength=len(places.names)).astype(np.float64)


@dataclass(frozen=True)
class Sums:
    """Sums over rows: by source, by destination, and by (ToR, ToR), (podset, podset), (DC, DC)."""

    out: Floats
    into: Floats
    tors: Floats
    podsets: Floats
    dcs: Floats

    @classmethod
    def of(cls, places: HostAxis, a: Ints, b: Ints, weights: NDArray[Any]) -> Sums:
        racks = len(places.tor_names)
        cell = places.tor.astype(np.int32)[a] * np.int32(racks) + places.tor.astype(np.int32)[b]
        tors = np.bincount(cell, weights, minlength=racks * racks).astype(np.float64).reshape(racks, racks)
        podsets = _fold(tors, places.tor, places.podset)
        dcs = _fold(podsets, places.podset, places.dc)
        return cls(sum_by_host(places, a, weights), sum_by_host(places, b, weights), tors, podsets, dcs)

    def __sub__(self, other: Sums) -> Sums:
        return Sums(*(getattr(self, name) - getattr(other, name) for name in self.__dataclass_fields__))


@dataclass(frozen=True)
class Component:
    """All suspects of one kind. `totals` gives each one's share of sums, `crossing` which rows cross one.

    `inner` numbers the parts that it is made of, by host; `of` numbers the suspects themselves, by host.
    """

    scope: Scope
    subjects: Sequence[str]
    side: str
    totals: Callable[[Sums], Floats]
    crossing: Callable[[int, Ints, Ints], Bools]
    of: Ints
    inner: Ints | None


def components_of(places: HostAxis, topology: bool) -> list[Component]:
    """Return the kinds of suspects. Where two explain the same rows, the one that stands first is named."""
    tor, podset, dc = places.tor, places.podset, places.dc
    everyone = np.arange(len(places.names))
    nobody = np.zeros(len(places.names), np.int64)

    def touching(of: Ints) -> Callable[[int, Ints, Ints], Bools]:
        return lambda k, a, b: (of == k)[a] | (of == k)[b]

    def leaving(of: Ints) -> Callable[[int, Ints, Ints], Bools]:
        return lambda k, a, b: (of == k)[a] ^ (of == k)[b]

    def touched(matrix: Floats) -> Floats:
        return np.asarray(matrix.sum(0) + matrix.sum(1) - matrix.diagonal())

    def left(matrix: Floats) -> Floats:
        return np.asarray(matrix.sum(0) + matrix.sum(1) - 2 * matrix.diagonal())

    def inside(matrix: Floats, fine: Ints, coarse: Ints) -> Floats:
        """Sum the diagonal by coarser part: what stays within one finer part."""
        return np.bincount(_coarse_of(fine, coarse), matrix.diagonal()).astype(np.float64)

    hosts = [
        Component("host", places.names, "both", lambda s: s.out + s.into, touching(everyone), everyone, None),
        Component("host", places.names, "in", lambda s: s.into, lambda k, a, b: b == k, everyone, None),
        Component("host", places.names, "out", lambda s: s.out, lambda k, a, b: a == k, everyone, None),
    ]
    if not topology:
        mesh = Component("mesh", (MESH,), "both", _everything, lambda k, a, b: np.ones(len(a), bool), nobody, everyone)
        return [mesh, *hosts]
    spines = tuple(f"{name}/spine" for name in places.dc_names)
    return [
        Component("mesh", (MESH,), "both", _everything, lambda k, a, b: np.ones(len(a), bool), nobody, dc),
        Component(
            *("tier", ("inter_dc",), "both", lambda s: np.array([s.dcs.sum() - s.dcs.trace()])),
            *(lambda k, a, b: dc[a] != dc[b], nobody, podset),
        ),
        Component("dc", places.dc_names, "both", lambda s: touched(s.dcs), touching(dc), dc, podset),
        Component("dc", places.dc_names, "both", lambda s: left(s.dcs), leaving(dc), dc, podset),
        Component(
            *("tier", spines, "both", lambda s: s.dcs.diagonal() - inside(s.podsets, podset, dc)),
            *(lambda k, a, b: (dc == k)[a] & (dc == k)[b] & (podset[a] != podset[b]), dc, podset),
        ),
        Component(
            *("tier", spines, "both", lambda s: touched(s.dcs) - inside(s.podsets, podset, dc)),
            *(lambda k, a, b: ((dc == k)[a] | (dc == k)[b]) & (podset[a] != podset[b]), dc, podset),
        ),
        Component("podset", places.podset_names, "both", lambda s: touched(s.podsets), touching(podset), podset, tor),
        Component(
            *("podset", places.podset_names, "both", lambda s: touched(s.podsets) - inside(s.tors, tor, podset)),
            *(lambda k, a, b: ((podset == k)[a] | (podset == k)[b]) & (tor[a] != tor[b]), podset, tor),
        ),
        Component("podset", places.podset_names, "both", lambda s: left(s.podsets), leaving(podset), podset, tor),
        Component("tor", places.tor_names, "both", lambda s: touched(s.tors), touching(tor), tor, everyone),
        Component("tor", places.tor_names, "both", lambda s: left(s.tors), leaving(tor), tor, everyone),
        *hosts,
    ]


def _fold(matrix: Floats, fine: Ints, coarse: Ints) -> Floats:
    """Sum a matrix by (fine, fine) to one by (coarse, coarse)."""
    of = _coarse_of(fine, coarse)
    size = int(of.max()) + 1
    onto = np.zeros((size, matrix.shape[0]))
    onto[of, np.arange(len(of))] = 1
    return np.asarray(onto @ matrix @ onto.T)


def _coarse_of(fine: Ints, coarse: Ints) -> Ints:
    """Return the coarse number of each fine number."""
    of = np.zeros(int(fine.max()) + 1, np.int64)
    of[fine] = coarse
    return of


def _everything(sums: Sums) -> Floats:
    return np.array([sums.out.sum()])
