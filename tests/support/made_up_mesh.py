"""A small api-server for the page: the answers of plugins/pingmesh_ui/API.md over a made-up mesh, under the same CSP.

The page's tests need meshes of every size, faults at known places, hostile names and an expired session within seconds;
the real api-server, object store and tables behind it have tests of their own.

    python -m tests.support.made_up_mesh --hosts 1000 --port 8777
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import socket
import struct
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
import zstandard
from numpy.typing import NDArray
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

STATIC = Path(__file__).parents[2] / "plugins" / "pingmesh_ui" / "static"
CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data: blob:; connect-src 'self'; "
    "worker-src 'self'; font-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'"
)
LATENCIES = ("p50", "p90", "p99", "max", "jitter")
UNCLEAN, MISSING, FAILED, ALL_LOST, MIDDLE = 4093, 4094, 4095, 4001, 2048
WINDOW_S = 300
DAY = 24 * 3600 // WINDOW_S
SHAPES = {100: (1, 2, 5, 10), 1000: (2, 5, 5, 20), 2500: (5, 5, 5, 20)}
HOSTILE = (
    "<img src=x onerror=window.hurt=1>",
    "\u202egnp.eman",
    "x" * 63,
    "'\"><script>window.hurt=1</script>",
    "{{7*7}}${7*7}",
    "a\u0300\u0301\u0302\u0303b",
    "javascript:window.hurt=1",
    "host08",
)
Codes = NDArray[np.uint16]


@dataclass
class Mesh:
    """`hosts` servers over `windows` windows that end at `end`. Faults: host 2 is dead, host n-3's agent is silent, one
    ToR loses, one podset is slow; in the first half of the windows nothing is wrong but the lossy ToR. The first window
    has no normal, and the first `old` windows are from before there was `change`. In the first `renamed` windows the
    first host had another name. `podset_down`: nobody of the first podset answers. What is wrong is found in the newest
    window. A list has at most the newest `most` windows."""

    hosts: int = 8
    windows: int = 24
    hostile: bool = False
    empty: bool = False
    paused: bool = False
    end: datetime = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)
    expired: bool = False
    broken: bool = False
    podset_down: bool = False
    old: int = 0
    renamed: int = 0
    most: int = 2_016
    posts: list[Any] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        dcs, podsets, tors, per = SHAPES.get(self.hosts, (1, 1, 1, self.hosts))
        self.shape = (dcs, podsets, tors, per)
        self.topology = self.hosts in SHAPES
        self.tor = np.arange(self.hosts) // per
        self.podset = self.tor // tors
        self.dc = self.podset // podsets
        self.names = [
            f"d{self.dc[i] + 1}p{self.podset[i] % podsets + 1}t{self.tor[i] % tors + 1:02}-{i % per + 1:02}"
            if self.topology
            else f"host{i + 1:02}"
            for i in range(self.hosts)
        ]
        if self.hostile:
            self.names[: len(HOSTILE)] = HOSTILE[: self.hosts]
        self.matrix = lru_cache(maxsize=12)(self._matrix)
        self.answer = lru_cache(maxsize=64)(self._answer)

    def ids(self, level: str = "window") -> list[str]:
        """The windows, or the hours that begin with one: an hour looks like its first window. There are no days."""
        first = self.end - timedelta(seconds=WINDOW_S * self.windows)
        moments = [first + timedelta(seconds=WINDOW_S * i) for i in range(self.windows)]
        return [f"{at:%Y%m%dT%H%M%SZ}" for at in moments if level == "window" or (level == "hour" and not at.minute)]

    def state(self, window: str) -> tuple[bool, int]:
        index = self.ids().index(window)
        return index >= self.windows // 2, index

    def _matrix(self, window: str, metric: str) -> Codes:
        sick, index = self.state(window)
        n = self.hosts
        rng = np.random.default_rng(7)
        base = np.where(self.tor[:, None] == self.tor[None], 90, 220)
        base = np.where(self.podset[:, None] == self.podset[None], base, base + 110)
        base = np.where(self.dc[:, None] == self.dc[None], base, 2600).astype(np.float32)
        noise = np.exp(rng.standard_normal((n, n), dtype=np.float32) * 0.16)
        us = base * np.roll(noise, (index * 7, index * 3), (0, 1)) * (1 + 0.12 * math.sin(index / 4))
        usual = base * noise
        us *= {"p50": 1, "p90": 1.4, "p99": 2.3, "max": 4.1, "jitter": 0.4}.get(metric, 1)
        if sick:
            slow = self.podset == min(int(self.podset.max()), 3)
            if self.podset.max() > 0:
                us[slow] *= 2.6
                us[:, slow] *= 2.6
            us[(5 % n), (6 % n)] *= 30
        lossy = self.tor == min(int(self.tor.max()), 7)
        loss = np.roll(np.where(rng.random((n, n)) < 0.004, 1 / 30, 0).astype(np.float32), index * 5, 1)
        if self.tor.max() > 0:
            loss[lossy] = np.maximum(loss[lossy], rng.random((int(lossy.sum()), n)) * (0.14 if sick else 0.04))
        elif sick:
            loss[4 % n, :] = 0.08
        if metric in ("loss", "unanswered"):
            codes = (1 + np.rint(loss * 4000)).astype(np.uint16)
        elif metric == "change":
            codes = np.clip(MIDDLE + np.rint(np.log(us / usual) / math.log(1.005)), 1, 4090).astype(np.uint16)
            codes *= index > 0
        elif metric == "sent":
            codes = np.full((n, n), 31, np.uint16)
        else:
            codes = np.clip(1 + np.rint(np.log(us) / math.log(1.005)), 1, 4090).astype(np.uint16)
        if sick:
            codes[2 % n, :] = codes[:, 2 % n] = ALL_LOST if metric in ("loss", "unanswered") else FAILED
            codes[n - 3, :] = MISSING
            if metric not in ("loss", "unanswered", "sent"):
                codes[1, n - 2] = UNCLEAN
        if sick and self.podset_down:
            codes[self.podset == 0] = MISSING
            codes[:, self.podset == 0] = ALL_LOST if metric in ("loss", "unanswered") else FAILED
        codes[np.arange(n), np.arange(n)] = 0
        return codes

    def _answer(self, window: str, metric: str, lod: int, pool: str) -> tuple[dict[str, Any], bytes]:
        codes = self.matrix(window, metric)
        values = codes[(codes > 0) & (codes <= 4090)]
        ranks = {"low": 0, "p01": 0.01, "p50": 0.5, "p99": 0.99, "high": 1} if len(values) else {}
        spread = {name: int(np.quantile(values, q, method="nearest")) for name, q in ranks.items()}
        sick, index = self.state(window)
        name, suspects = ("host_down", [self.names[2]]) if sick else ("normal", [])
        if sick and self.podset_down:
            name, suspects = "podset_down", [self.groups()["podsets"][0]["name"]]
        kind = {"loss": "share", "unanswered": "share", "change": "ratio"}.get(metric, "log")
        header = {
            "window": window, "level": "window", "metric": metric, "unit": {"log": "us"}.get(kind, kind),
            "code": kind, "lod": lod, "pool": pool,
            "hosts": self.hosts, "plan": f"p{int(index >= self.renamed)}", "axis": "a1",
            "codes": spread if len(values) else None,
            "normal": self.ids()[index - 1] if index else None,
            "pattern": {"name": name, "suspects": suspects, "count": len(suspects), "white": 0, "red": 0},
            "cells": {
                "measured": len(values), "failed": int((codes == FAILED).sum()),
                "missing": int((codes == MISSING).sum()), "unclean": int((codes == UNCLEAN).sum()),
                "not_planned": int((codes == 0).sum()),
            },
        }  # fmt: skip
        for _ in range(lod):
            codes = np.pad(codes, ((0, len(codes) % 2), (0, len(codes) % 2)))
            quads = np.stack([codes[::2, ::2], codes[1::2, ::2], codes[::2, 1::2], codes[1::2, 1::2]])
            if pool == "max":
                codes = quads.max(axis=0)
            else:
                good = (quads > 0) & (quads <= 4090)
                mean = (quads * good).sum(axis=0) / np.maximum(1, good.sum(axis=0))
                codes = np.where(good.any(axis=0), np.rint(mean), quads.max(axis=0)).astype(np.uint16)
        header["side"] = len(codes)
        return header, codes.tobytes()

    def point(self, window: str, rows: Any, columns: Any) -> dict[str, Any]:
        if self.hosts > 100:  # figures of a smaller mesh with the same faults: nobody can tell, and it is quick
            small: Mesh = self.__dict__.setdefault("small", Mesh(100, self.windows, end=self.end))
            return small.point(window, np.unique(rows % 100), np.unique(columns % 100))
        us = {m: self.matrix(window, m)[rows][:, columns] for m in ("p50", "p90", "p99", "max")}
        loss = self.matrix(window, "loss")[rows][:, columns]
        p50 = us["p50"]
        good = (p50 > 0) & (p50 <= 4090)
        sent = int((p50 > 0).sum()) * 30
        out: dict[str, Any] = {
            "window": window, "sent": sent, "pairs": int((p50 > 0).sum()), "failed": int((p50 == FAILED).sum()),
            "missing": int((p50 == MISSING).sum()),
        }  # fmt: skip
        out["answered"] = sent - out["failed"] * 30
        share = (loss[(loss > 0) & (loss <= ALL_LOST)].astype(float) - 1) / 4000
        out["loss"] = out["unanswered"] = float(share.mean()) if len(share) else None
        out["lost"] = int((out["loss"] or 0) * sent)
        for name, codes in us.items():
            value = 1.005 ** float(np.median(codes[good]) - 1) if good.any() else None
            out[f"{name}_us"] = value
        return out

    def rows_of(self, name: str | None) -> NDArray[np.int64]:
        if not name:
            return np.arange(self.hosts)
        if name in self.names:
            return np.array([self.names.index(name)])
        for groups in self.groups().values():
            for group in groups:
                if group["name"] == name:
                    return np.arange(group["start"], group["stop"])
        raise KeyError(name)

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        _, podsets, tors, _ = self.shape

        def spans(of: NDArray[np.int64], name: Any) -> list[dict[str, Any]]:
            out = []
            for code in range(int(of.max()) + 1):
                where = np.flatnonzero(of == code)
                path = name(code)
                stop = int(where[-1]) + 1
                out.append({"name": path, "label": path.split("/")[-1], "start": int(where[0]), "stop": stop})
            return out

        dc = lambda d: f"dc{d + 1}"  # noqa: E731
        podset = lambda p: f"{dc(p // podsets)}/podset{p % podsets + 1}"  # noqa: E731
        return {
            "dcs": spans(self.dc, dc),
            "podsets": spans(self.podset, podset),
            "tors": spans(self.tor, lambda t: f"{podset(t // tors)}/tor{t % tors + 1}"),
        }


def make_app(mesh: Mesh, prefix: str = "") -> Starlette:
    """The page at `<prefix>/pingmesh/`, a frame around it at `<prefix>/` as Airflow has one, the path it posts to."""

    def api(function: Any) -> Any:
        def endpoint(request: Request) -> Response:
            mesh.asked.append(request.url.path + "?" + request.url.query)
            if mesh.expired:
                return JSONResponse({"detail": "Invalid JWT token"}, 401, headers=HEADERS)
            if mesh.broken:
                error = {"code": "no_store", "message": "The object store does not answer: is it up?"}
                return JSONResponse({"error": error}, 503, headers=HEADERS | {"retry-after": "5"})
            try:
                answer = function(request)
            except (KeyError, ValueError) as error:
                fault = {"code": "no_window", "message": f"There is nothing for {error}."}
                return JSONResponse({"error": fault}, 404, headers=HEADERS)
            return answer if isinstance(answer, Response) else JSONResponse(answer, headers=HEADERS)

        return endpoint

    def entry(window: str) -> dict[str, str]:
        return {"id": window, "v": f"v{window[9:15]}"}

    def level_of(request: Request) -> str:
        return request.query_params.get("level", "window")

    def boot(request: Request) -> Any:
        ids = mesh.ids()
        newest = None if mesh.empty else entry(ids[-1]) | {"plan": "p1", "axis": "a1", "hosts": mesh.hosts}
        empty = {"code": "no_data", "message": "No window has been measured yet."}
        every = ["window", "hour", "day"]
        metrics = [{"name": m, "unit": "us", "code": "log", "levels": every} for m in LATENCIES]
        metrics.append({"name": "loss", "unit": "share", "code": "share", "levels": every})
        metrics.append({"name": "change", "unit": "ratio", "code": "ratio", "levels": ["window"]})
        return {
            "page": 1, "user": "admin", "now": "20261122T030010Z", "window_s": WINDOW_S, "slow_us": 1000,
            "bad_us": 5000,
            "windows": [] if mesh.empty else [entry(w) for w in ids[-DAY:]], "newest": newest, "metrics": metrics,
            "levels": ["window", "hour"], "empty": empty if mesh.empty else None,
            "schedule": {"paused": mesh.paused, "next_run_after": "20261122T030500Z"},
        }  # fmt: skip

    def windows(request: Request) -> Any:
        level = level_of(request)
        usual = mesh.ids(level)[-DAY:][0] if mesh.ids(level) else ""
        first, last = request.query_params.get("from", usual), request.query_params.get("to", "9")
        ids = [] if mesh.empty else [w for w in mesh.ids(level) if first <= w < last]
        limit = int(request.query_params.get("limit", mesh.most))
        length_s = 3600 if level == "hour" else WINDOW_S
        found = [entry(w) for w in ids[-limit:]]
        return {"level": level, "length_s": length_s, "windows": found, "more": len(ids) > limit}

    def axis(request: Request) -> Any:
        addresses = [f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(mesh.hosts)]
        plan = request.path_params["plan"]
        names = ["old-name", *mesh.names[1:]] if plan == "p0" else mesh.names
        said = {"axis": "a1", "plan": plan, "topology": mesh.topology, "hosts": names, "addresses": addresses}
        return said | mesh.groups()

    def matrix(request: Request) -> Response:
        q = request.query_params
        if q["metric"] == "change" and mesh.state(q["window"])[1] < mesh.old:
            error = {"code": "no_table", "message": "the window has no change; a new run of it may make one"}
            return JSONResponse({"error": error}, 404, headers=HEADERS)
        header, codes = mesh.answer(q["window"], q["metric"], int(q.get("lod", 0)), q.get("pool", "max"))
        text = json.dumps(header).encode()
        text += b" " * (-(8 + len(text)) % 8)
        body = b"PMM1" + struct.pack("<I", len(text)) + text + codes
        headers = HEADERS | {"content-encoding": "identity"}
        if "zstd" in request.headers.get("accept-encoding", ""):
            body = zstandard.ZstdCompressor(level=1).compress(body)
            headers["content-encoding"] = "zstd"
        headers["cache-control"] = "private, max-age=31536000, immutable" if "v" in q else "no-cache"
        return Response(body, media_type="application/vnd.pingmesh.matrix", headers=headers)

    def worst(request: Request) -> Any:
        q = request.query_params
        codes = mesh.matrix(q["window"], q["metric"]).copy()
        bad = (codes >= MISSING) | (codes == ALL_LOST) if q["metric"] == "loss" else codes >= MISSING
        planned = (codes > 0).sum(axis=1)
        hosts = []
        for i in np.flatnonzero((bad.sum(axis=1) >= planned / 2) | (bad.sum(axis=0) >= planned / 2)):
            hosts.append({
                "host": mesh.names[i], "row": int(i), "as_source": float(bad[i].sum() / planned[i]),
                "as_destination": float(bad[:, i].sum() / planned[i]),
            })  # fmt: skip
        flat = np.argsort(-codes.ravel().astype(int), kind="stable")[: int(q.get("count", 20))]
        out = []
        for rank, cell in enumerate(flat, 1):
            row, column = divmod(int(cell), mesh.hosts)
            code = int(codes[row, column])
            state = {FAILED: "failed", MISSING: "missing", UNCLEAN: "unclean"}.get(code, "measured")
            share = q["metric"] == "loss"
            value = None if state != "measured" else (code - 1) / 4000 if share else 1.005 ** (code - 1)
            out.append({
                "rank": rank, "src": mesh.names[row], "dst": mesh.names[column], "row": row, "column": column,
                "state": state, "code": code, "value": value,
            })  # fmt: skip
        return {"window": q["window"], "metric": q["metric"], "worst": out, "hosts": hosts}

    def pair(request: Request) -> Any:
        q = request.query_params
        row, column = mesh.names.index(q["src"]), mesh.names.index(q["dst"])
        code = {m: int(mesh.matrix(q["window"], m)[row, column]) for m in (*LATENCIES, "loss", "change")}
        us = {m: round(1.005 ** (c - 1)) if 0 < c <= 4090 else None for m, c in code.items()}
        lost = 30 if code["loss"] == ALL_LOST else round(30 * max(0, min(code["loss"], 4000) - 1) / 4000)
        sent = 0 if code["p50"] in (0, MISSING) else 30
        cdf = [] if us["p50"] is None else [[us["p50"] * f, s] for f, s in ((0.8, 0.1), (1, 0.5), (1.4, 0.9), (2.3, 1))]
        entry = {
            "protocol": "tcp", "scope": "intra_dc", "sent": sent, "answered": sent - lost, "lost": lost,
            "retransmitted": 0, "refused": 0, "unreachable": 0, "reset": 0, "bad_reply": 0, "local_error": 0,
            "rtt_min_us": us["p50"] and us["p50"] * 0.8, "rtt_p50_us": us["p50"], "rtt_p90_us": us["p90"],
            "rtt_p95_us": us["p90"], "rtt_p99_us": us["p99"], "rtt_max_us": us["max"], "rtt_mean_us": us["p50"],
            "jitter_us": us["jitter"], "cdf": cdf, "normal_p50_us": None, "normal_windows": None,
        }  # fmt: skip
        if (index := mesh.state(q["window"])[1]) and us["p50"]:
            ratio = 1.005 ** (code["change"] - MIDDLE)
            entry |= {"normal_p50_us": round(us["p50"] / ratio, 1), "normal_windows": index}
        return {"window": q["window"], "src": q["src"], "dst": q["dst"], "protocols": [entry]}

    def series(request: Request) -> Any:
        q = request.query_params
        rows, columns = mesh.rows_of(q.get("src")), mesh.rows_of(q.get("dst"))
        rows, columns = rows[:60], columns[:60]
        first, last = q.get("from", ""), q.get("to", "9")
        ids = [w for w in mesh.ids(level_of(request)) if first <= w < last]
        points = [mesh.point(w, rows, columns) for w in ids[-96:]]
        if q["of"] == "pair":
            for point in points:
                point["state"] = "failed" if point["failed"] else "missing" if point["missing"] else "measured"
        src, dst = q.get("src"), q.get("dst")
        return {"of": q["of"], "src": src, "dst": dst, "step": 1, "of_windows": len(ids), "points": points}

    def cdf(request: Request) -> Any:
        q = request.query_params
        if q["of"] == "pair":
            raise ValueError("of=pair")
        rows, columns = mesh.rows_of(q.get("src")), mesh.rows_of(q.get("dst"))
        codes = mesh.matrix(q["window"], "p50")[rows][:, columns]
        us = np.sort(1.005 ** (codes[(codes > 0) & (codes <= 4090)].astype(float) - 1))
        if not len(us):
            nothing = dict.fromkeys(("p50_us", "p90_us", "p95_us", "p99_us", "p999_us"))
            return {"window": q["window"], "of": q["of"], "count": 0, "min_us": None, "max_us": None,
                    "quantiles": nothing, "cdf": []}  # fmt: skip
        shares = [*np.linspace(0.01, 1, 100)]
        points = [[float(us[math.ceil(s * len(us) - 1e-9) - 1]), float(s)] for s in shares]
        quantiles = {
            f"p{name}_us": float(us[math.ceil(s * len(us)) - 1])
            for name, s in (("50", 0.5), ("90", 0.9), ("95", 0.95), ("99", 0.99), ("999", 0.999))
        }
        return {"window": q["window"], "of": q["of"], "src": q.get("src"), "dst": q.get("dst"), "count": len(us) * 30,
                "min_us": float(us[0]), "max_us": float(us[-1]), "quantiles": quantiles, "cdf": points}  # fmt: skip

    def groups(request: Request) -> Any:
        q = request.query_params
        if q["of"] == "host":
            every = np.arange(mesh.hosts)[:60]
            out = []
            for i, host in enumerate(mesh.names):
                rows = np.array([i])
                out.append(mesh.point(q["window"], rows, every) | {"src": host, "dst": None})
                out.append(mesh.point(q["window"], every, rows) | {"src": None, "dst": host})
            return {"window": q["window"], "of": "host", "groups": out}
        names = [(g["name"], np.arange(g["start"], g["stop"])[:20]) for g in mesh.groups()[q["of"] + "s"]]
        out = [mesh.point(q["window"], a, b) | {"src": x, "dst": y} for x, a in names for y, b in names]
        return {"window": q["window"], "of": q["of"], "groups": out}

    def anomalies(request: Request) -> Any:
        source, newest = request.query_params.get("source"), mesh.ids()[-1]
        first, last = request.query_params.get("from", ""), request.query_params.get("to", "9")
        rows = _anomalies(mesh) if first <= newest < last and not mesh.empty else []
        return {"anomalies": [row for row in rows if source in (None, row["source"])], "more": False}

    def incidents(request: Request) -> Any:
        return {"incidents": [] if mesh.empty else _incidents(mesh)}

    def fleet(request: Request) -> Any:
        out = []
        for i, host in enumerate(mesh.names):
            bad = "unreachable" if i == 2 else "no_segment" if i == mesh.hosts - 3 else "ok"
            for stage in ("keys", "dispatch", "collect"):
                outcome = "unchanged" if stage == "keys" else bad
                out.append({
                    "host": host, "stage": stage, "outcome": outcome, "duration_ms": 40 + i % 60,
                    "detail": "ssh: connect to 10.0.0.2 port 22: No route to host" if outcome == "unreachable" else "",
                    "clock_offset_us": (i * 37) % 900 - 400, "agent_version": "8d21f0a3c2b14e55",
                    "pinglist_version": "77ab01c2d3e4f506", "segment_bytes": 41_000 + i, "scheduled": 30 * mesh.hosts,
                    "skipped": 0,
                })  # fmt: skip
        counts: dict[str, dict[str, int]] = {}
        for row in out:
            stage_counts = counts.setdefault(row["stage"], {})
            stage_counts[row["outcome"]] = stage_counts.get(row["outcome"], 0) + 1
        return {"window": request.query_params.get("window", mesh.ids()[-1]), "hosts": out, "outcomes": counts}

    def usage(request: Request) -> Any:
        if mesh.empty:
            return {"window": None, "servers": [], "figures": []}
        window = request.query_params.get("window", mesh.ids()[-1])
        return {"window": window, "servers": ["data1", "data2"], "figures": _figures(mesh)}

    def sessions(request: Request) -> Any:
        if mesh.empty:
            return {"window": None, "sessions": [], "more": False}
        start = "2026-11-22T01:11:09.000000Z"
        out = [
            {"server": "data1", "session": f"s{i}", "user": user, "host": f"desk{i}", "address": f"10.1.2.{i + 3}",
             "start_time": start, "last_time": start, "end_time": None if i % 2 else start,
             "ended_by": None if i % 2 else "disconnect", "confidence": "open" if i % 2 else "exact",
             "duration_s": 9000 - 700 * i, "attribution": "process", "operations": 4000 - 311 * i,
             "window_operations": 12 * i}
            for i, user in enumerate(_users(mesh))
        ]  # fmt: skip
        return {"window": request.query_params.get("window", mesh.ids()[-1]), "sessions": out, "more": False}

    async def trigger(request: Request) -> Response:
        mesh.posts.append(await request.json())
        if mesh.expired:
            return JSONResponse({"detail": "Not authenticated"}, 401)
        return JSONResponse({"dag_run_id": "manual__1", "state": "queued"})

    def static(request: Request) -> Response:
        path = (STATIC / request.path_params["path"]).resolve()
        if not path.is_relative_to(STATIC) or not path.is_file():
            return Response("no such file", 404, headers=HEADERS)
        kind = {".js": "text/javascript", ".css": "text/css", ".json": "application/json", ".svg": "image/svg+xml"}
        return Response(path.read_bytes(), media_type=kind.get(path.suffix, "text/plain"), headers=HEADERS)

    def index(request: Request) -> Response:
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html", headers=HEADERS)

    def airflow(request: Request) -> Response:
        frame = f'<iframe src="{home}/" sandbox="allow-scripts allow-same-origin allow-forms allow-downloads"></iframe>'
        text = f'<!doctype html><html class="dark"><base href="{prefix}/"><title>Airflow</title>{frame}'
        return Response(text, media_type="text/html")

    home = f"{prefix}/pingmesh"
    pages = {f: Route(f"{home}/api/v1/{f.__name__}", api(f)) for f in (
        boot, windows, matrix, worst, pair, series, cdf, groups, anomalies, incidents, fleet, usage, sessions,
    )}  # fmt: skip
    return Starlette(
        routes=[
            Route(f"{home}/", index),
            Route(f"{prefix}/", airflow),
            Route(f"{home}/static/@/{{path:path}}", static),
            Route(f"{home}/api/v1/axis/{{plan}}", api(axis)),
            *pages.values(),
            Route(f"{prefix}/api/v2/dags/alert_admin/dagRuns", trigger, methods=["POST"]),
        ]
    )


HEADERS = {"content-security-policy": CSP, "x-content-type-options": "nosniff", "cache-control": "no-cache"}


def _users(mesh: Mesh) -> list[str]:
    return list(HOSTILE[:6]) if mesh.hostile else ["alice", "bob", "chen", "dora", "emil", "fang"]


def _anomalies(mesh: Mesh) -> list[dict[str, Any]]:
    at = f"{mesh.end:%Y-%m-%dT%H:%M:%S}.000000Z"
    common = {"at": at, "lane": "window", "since": at, "confidence": 0.9, "advice": "Look at the host's console first."}
    evidence = [{"src": mesh.names[1], "dst": mesh.names[2], "loss": 1.0}, {"src": mesh.names[0], "dst": mesh.names[2]}]
    down = common | {
        "source": "mesh", "rule": "podset_down", "scope": "podset", "severity": "critical",
        "subject": mesh.groups()["podsets"][0]["name"], "value": 1.0, "unit": "share", "threshold": 0.9,
        "normal": 0.0, "affected": mesh.hosts, "detail": "Nobody there answers.", "evidence": [],
    }  # fmt: skip
    return [
        *([down] if mesh.podset_down else []),
        common | {"source": "mesh", "rule": "host_down", "scope": "host", "subject": mesh.names[2], "value": 1.0,
                  "severity": "critical", "unit": "share", "threshold": 0.9, "normal": 0.0,
                  "affected": 2 * mesh.hosts - 2,
                  "detail": f"{mesh.names[2]} answers nobody.", "evidence": evidence},
        common | {"source": "data1", "rule": "user_rate", "scope": "user", "subject": _users(mesh)[1], "value": 410.0,
                  "severity": "warning", "unit": "operations/s", "threshold": 50.0, "normal": 3.5, "affected": 1,
                  "detail": f"{_users(mesh)[1]} reads 410 times a second.", "evidence": []},
    ]  # fmt: skip


def _incidents(mesh: Mesh) -> list[dict[str, Any]]:
    out = []
    for i, anomaly in enumerate(_anomalies(mesh)):
        entry = {"id": f"a1b2c3d4e5f{i}", "state": "open", "opened_at": anomaly["since"], "seen_at": anomaly["at"]}
        out.append(anomaly | entry)
    return out


def _figures(mesh: Mesh) -> list[dict[str, Any]]:
    out = []

    def add(server: str, measure: str, dimension: str, key: str | None, value: int) -> None:
        out.append({"server": server, "measure": measure, "dimension": dimension, "key": key, "value": value})

    for server, share in (("data1", 1), ("data2", 3)):
        for measure, value in (("operations", 41_210), ("connects", 320), ("refused", 4), ("rejected", 2),
                               ("sessions_online", 17), ("users_online", 6), ("longest_online_s", 9000)):  # fmt: skip
            add(server, measure, "all", None, value // share)
        for i, user in enumerate(_users(mesh)):
            add(server, "operations", "user", user, 12_000 // (i + share))
            add(server, "longest_online_s", "user", user, 9000 // (i + share))
        for i, node in enumerate(("\\EAST::IP", "\\EAST::TOP:MAG:BT", HOSTILE[0] if mesh.hostile else "\\PCS::VLOOP")):
            add(server, "operations", "node", node, 9000 // (i + share))
        for i, country in enumerate(("CN", "US", "DE", "local")):
            add(server, "connects", "country", country, 200 // (i + share))
            add(server, "users_online", "country", country, 4 // (i + share))
        for i, kind in enumerate(("GetMany", "Open", "Put")):
            add(server, "operations", "hook_type", kind, 20_000 // (i + share))
    return out


@contextlib.contextmanager
def serving(mesh: Mesh, prefix: str = "", port: int = 0) -> Iterator[str]:
    """Serve the page of `mesh` from a thread; yields its address."""
    listener = socket.create_server(("127.0.0.1", port))
    config = uvicorn.Config(make_app(mesh, prefix), log_level="warning", lifespan="off")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}{prefix}/pingmesh/"
    finally:
        server.should_exit = True
        thread.join(10)
        listener.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--hosts", type=int, default=8)
    parser.add_argument("--windows", type=int, default=24)
    parser.add_argument("--port", type=int, default=8777)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("--empty", action="store_true")
    args = parser.parse_args()
    with serving(Mesh(args.hosts, args.windows, args.hostile, args.empty), port=args.port) as address:
        print(address, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
