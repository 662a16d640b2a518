"""Modules of the page that only reckon, each asked by itself in a real Chromium: ramps, codes, pyramids, the worst."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

OpenPage = Callable[..., Any]


def test_the_ramps_grow_lighter_all_the_way(demo: str, open_page: OpenPage):
    page = open_page(demo)
    for kind in ("us", "ratio"):
        greys = page.evaluate(
            """async (kind) => {
            const { colourAt } = await import(new URL("static/@/map/palette.js", document.baseURI));
            const scale = { kind, mode: "log", low: 0.25, high: 4 };
            const grey = ([r, g, b]) => 0.2126 * r + 0.7152 * g + 0.0722 * b;
            return Array.from({ length: 60 }, (_, i) => grey(colourAt(scale, 0.25 * 16 ** (i / 59)))); }""",
            kind,
        )
        assert all(b > a - 0.6 for a, b in pairwise(greys)), kind


def test_codes_pyramids_and_the_list_of_the_worst_are_right(demo: str, open_page: OpenPage):
    page = open_page(demo)
    result = page.evaluate(
        """async () => {
        const at = (path) => import(new URL(`static/@/${path}`, document.baseURI));
        const codes = await at("map/codes.js"), pyramid = await at("map/pyramid.js"), worst = await at("map/worst.js");
        const n = 101, cells = new Uint16Array(n * n).fill(700), u16 = (...values) => Uint16Array.from(values);
        for (let i = 0; i < n; i++) cells[3 * n + i] = cells[i * n + 3] = 4095;
        for (let i = 0; i < n; i++) cells[i * n + i] = 0;
        cells[50 * n + 60] = 1500;
        const levels = pyramid.buildPyramid(cells, n), means = pyramid.buildMeans(u16(1, 41, 0, 4094), 2);
        const found = worst.findWorst(cells, n);
        return {
          round: [1, 83, 999, 1e6].map((us) => codes.decode(codes.encode(us, "us"), "us")),
          shares: [0, 0.5, 1].map((s) => codes.decode(codes.encode(s, "share"), "share")),
          sizes: levels.map((level) => level.n), top: levels[1].codes[25 * 51 + 30], edge: levels[1].codes[50 * 51 + 1],
          mean: [...pyramid.poolMean(means[0]).codes],
          doubled: codes.decode(codes.difference(u16(840), u16(701))[0], "ratio"),
          hosts: found.hosts.map((host) => host.at), cell: found.cells[0],
          arranged: [...pyramid.arrange(u16(1, 2, 3, 4, 5, 6, 7, 8, 9), 3, [2, 0])],
        }; }"""
    )
    assert result["round"] == pytest.approx([1, 83, 999, 1e6], rel=0.0026)
    assert result["shares"] == [0, 0.5, 1]
    assert result["sizes"] == [101, 51, 26]
    assert result["top"] == 1500
    assert result["edge"] == 4095
    assert result["mean"] == [21]
    assert result["doubled"] == pytest.approx(2, rel=0.01)
    assert result["hosts"] == [3]
    assert result["cell"] == {"x": 60, "y": 50, "code": 1500}
    assert result["arranged"] == [9, 7, 3, 1]
