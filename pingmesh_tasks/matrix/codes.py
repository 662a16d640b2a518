"""A figure of a pair as two bytes: small enough to send 6 million of them to a browser, exact enough to draw.

    1 … 4090     measured: a round trip in steps of 0.5 %, a share in steps of 1/4000, a count, or a ratio about 2048
    0, 4093 …    not measured: the value of a `State`

The worst has the greatest code, so that the greatest code of a block (`pool_max`) tells the worst that happened in it:
a single dead host survives any zoom.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pingmesh_tasks.matrix.states import State

Codes = NDArray[np.uint16]
Kind = Literal["log", "share", "count", "ratio"]

MOST = 4090
STEP = 1.005
SHARE_STEPS = 4000
#: The code of a ratio of 1.
MIDDLE = 2048
CODE_COUNT = 4096

_LOG_STEP = math.log(STEP)


def _log_code(us: NDArray[Any]) -> Codes:
    return np.asarray(np.minimum(1 + np.rint(np.log(np.maximum(us, 1)) / _LOG_STEP), MOST), np.uint16)


_CODE_BELOW_65_MS = _log_code(np.arange(1 << 16))


@dataclass(frozen=True, slots=True)
class Metric:
    """What a map shows. `column` is that of `pair_latency`, None where the figure is worked out of several."""

    name: str
    kind: Kind
    unit: str
    column: str | None = None


#: What every map has, of windows, hours and days.
METRICS: Mapping[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric("p50", "log", "us", "rtt_p50_us"),
        Metric("p90", "log", "us", "rtt_p90_us"),
        Metric("p99", "log", "us", "rtt_p99_us"),
        Metric("max", "log", "us", "rtt_max_us"),
        Metric("jitter", "log", "us", "jitter_us"),
        Metric("loss", "share", "share"),
        Metric("unanswered", "share", "share"),
        Metric("sent", "count", "probes"),
    )
}
#: A pair's p50 by its normal p50. Only windows have it, and old ones do not.
CHANGE = Metric("change", "ratio", "ratio")
ALL_METRICS: Mapping[str, Metric] = {**METRICS, CHANGE.name: CHANGE}


def encode_us(us: NDArray[np.uint32]) -> Codes:
    """Return the `log` codes of round trips: code c is `STEP ** (c - 1)` µs, to 0.25 %; 0 and 1 µs share code 1."""
    codes = _CODE_BELOW_65_MS.take(us, mode="clip")
    slow = us >= len(_CODE_BELOW_65_MS)
    codes[slow] = _log_code(us[slow])
    return codes


def encode_share(share: NDArray[np.floating[Any]]) -> Codes:
    """Return the codes of shares, 0…1. A share that is not 0 never becomes 0."""
    return np.where(share > 0, np.maximum(2, 1 + np.rint(share * SHARE_STEPS)), 1).astype(np.uint16)


def encode_count(count: NDArray[Any]) -> Codes:
    return np.asarray(1 + np.minimum(count, MOST - 1), np.uint16)


def encode_ratio(ln: NDArray[np.floating[Any]]) -> Codes:
    """Return the codes of ratios, given as their logarithms; NaN is `State.NOT_PLANNED`.

    Code c is `STEP ** (c - MIDDLE)`.
    """
    codes = np.clip(np.rint(np.nan_to_num(ln) / _LOG_STEP) + MIDDLE, 1, MOST)
    return np.where(np.isnan(ln), State.NOT_PLANNED, codes).astype(np.uint16)


_DECODE: Mapping[Kind, Callable[[NDArray[np.float64]], NDArray[np.float64]]] = {
    "log": lambda code: np.exp((code - 1) * _LOG_STEP),
    "share": lambda code: (code - 1) / SHARE_STEPS,
    "count": lambda code: code - 1,
    "ratio": lambda code: np.exp((code - MIDDLE) * _LOG_STEP),
}


def decode(codes: NDArray[Any], kind: Kind) -> NDArray[np.float64]:
    """Return what codes stand for (µs, share, count, ratio); NaN for the states."""
    given = np.asarray(codes, np.float64)
    return np.where(is_measured(codes), _DECODE[kind](given), np.nan)


def is_measured(codes: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray((codes >= State.MEASURED) & (codes <= MOST))


def state_of(code: int) -> State:
    """Return the state that a code stands for."""
    return State.MEASURED if is_measured(np.array(code)) else State(code)


def pool_max(codes: Codes, lod: int) -> Codes:
    """Return the greatest code of each block of 2^lod × 2^lod of a matrix; the last blocks may be smaller."""
    for _ in range(lod):
        codes = _fold(_fold(codes).T).T
    return np.ascontiguousarray(codes)


def pool_mean(codes: Codes, lod: int) -> Codes:
    """Return the mean code of the measured cells of each block; a block without any has its greatest code.

    The mean of `log` codes is the geometric mean of the round trips, that of shares weighs every pair alike.
    """
    if lod == 0:
        return codes
    measured = is_measured(codes)
    total = _block_sums(np.where(measured, codes, 0), lod)
    count = _block_sums(measured, lod)
    mean = np.rint(total / np.maximum(count, 1)).astype(np.uint16)
    return np.where(count > 0, mean, pool_max(codes, lod))


def _fold(codes: Codes) -> Codes:
    """Return the greater of each two rows; an odd last row stays."""
    even = len(codes) // 2 * 2
    folded = np.maximum(codes[0:even:2], codes[1:even:2])
    return folded if even == len(codes) else np.concatenate([folded, codes[even:]])


def _block_sums(values: NDArray[Any], lod: int) -> NDArray[np.uint32]:
    wide = np.add.reduceat(values, np.arange(0, values.shape[1], 1 << lod), axis=1, dtype=np.uint32)
    return np.asarray(np.add.reduceat(wide, np.arange(0, values.shape[0], 1 << lod), axis=0))
