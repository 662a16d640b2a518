"""The ladder by itself: its buckets, what is read from it, and how ladders add up."""

import math
from bisect import bisect_right

import numpy as np
import pytest

from pingmesh_tasks.latency.ladder import (
    LADDER_BUCKETS,
    LADDER_EDGES_US,
    NO_RTT,
    Ladders,
    LadderSums,
    ladder_buckets,
)

QUANTILES = {f"p{q}": q for q in (0.001, 0.5, 0.9, 0.99, 0.999, 1)}


def ladder_of(*rtts_us: int) -> Ladders:
    rtts = np.sort(np.array(rtts_us, np.uint32))
    buckets, counts = np.unique(ladder_buckets(rtts), return_counts=True)
    ends = (int(rtts[0]), int(rtts[-1])) if len(rtts) else (NO_RTT, 0)
    return Ladders.of_one(buckets, counts, *ends)


def together(*ladders: Ladders) -> Ladders:
    """Return many ladders as one value."""
    columns = ("bucket", "count", "min_us", "max_us")
    joined = (np.concatenate([getattr(one, name) for one in ladders]) for name in columns)
    return Ladders(np.append(0, np.cumsum([one.lengths.sum() for one in ladders])), *joined)


def quantile(ladders: Ladders, q: float) -> float:
    (us,) = ladders.quantiles_us({"q": q})["q"]
    return us


def test_every_whole_microsecond_is_in_the_bucket_whose_edges_hold_it():
    edges = [10 * 10 ** (b / 40) for b in range(241)]
    rtts = np.unique(
        np.concatenate([np.arange(70_000), LADDER_EDGES_US, LADDER_EDGES_US - 1, [10**7, 10**7 - 1, 2**32 - 1]])
    ).astype(np.uint32)
    assert ladder_buckets(rtts).tolist() == [bisect_right(edges, rtt) for rtt in rtts.tolist()]
    assert (LADDER_EDGES_US[0], LADDER_EDGES_US[40], LADDER_EDGES_US[-1]) == (10, 100, 10**7)
    assert LADDER_BUCKETS == 242


@pytest.mark.parametrize("seed", range(30))
def test_a_quantile_is_within_its_bound_of_the_exact_one(seed):
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 3_000))
    rtts = np.sort(np.clip(rng.lognormal(rng.uniform(3, 13), rng.uniform(0.01, 3), size), 10, 9_999_999))
    rtts = rtts.astype(np.uint32)
    for name, (us,) in ladder_of(*rtts).quantiles_us(QUANTILES).items():
        exact = float(rtts[math.ceil(QUANTILES[name] * size - 1e-9) - 1])
        assert abs(us - exact) <= 0.0288 * exact + 0.5  # and rounding to whole µs
        assert us == round(us) and rtts[0] <= us <= rtts[-1]


@pytest.mark.parametrize("us", [1, 8, 9, 10, 250, 9_999_999, 10_000_000, 12_000_000, 2**32 - 2])
def test_where_all_round_trips_are_equal_so_is_every_quantile(us):
    assert {name: found.tolist() for name, found in ladder_of(us, us, us).quantiles_us(QUANTILES).items()} == {
        name: [us] for name in QUANTILES
    }


def test_beyond_the_ends_of_the_ladder_the_extremes_answer():
    both = ladder_of(3, 5, 12_000_000, 13_000_000)
    assert [quantile(both, q) for q in (0.25, 0.5, 0.51, 0.99)] == [3, 3, 13_000_000, 13_000_000]


def test_the_extremes_bound_the_estimate_of_the_bucket_that_they_are_in():
    assert quantile(ladder_of(1_000, 1_001), 0.5) == 1_001  # the bucket reaches from 1,000 to 1,059
    assert quantile(ladder_of(1_050, 1_058), 0.5) == 1_050


def test_an_empty_ladder_has_no_quantile_and_no_cdf_among_others_either():
    many = together(ladder_of(100), ladder_of(), ladder_of(7, 7), ladder_of())
    assert np.array_equal(many.quantiles_us({"p50": 0.5})["p50"], [100, np.nan, 7, np.nan], equal_nan=True)
    assert many.totals.tolist() == [1, 0, 2, 0] and len(many) == 4
    assert [len(points) for points in many.cdf(1)] == [0, 0]
    nothing = together(ladder_of(), ladder_of())
    assert np.isnan(nothing.quantiles_us({"p50": 0.5})["p50"]).all()


def test_entries_that_count_nothing_change_nothing():
    sparse = Ladders.of_one([20, 30, 40, 50], [0, 2, 0, 1], 50, 160)
    plain = Ladders.of_one([30, 50], [2, 1], 50, 160)
    for q in (0.01, 0.5, 0.66, 0.67, 1):
        assert quantile(sparse, q) == quantile(plain, q)
    zeros = Ladders.of_one([20, 30], [0, 0], NO_RTT, 0)
    assert math.isnan(quantile(zeros, 0.5)) and [len(points) for points in zeros.cdf()] == [0, 0]


def test_the_cdf_is_exact_at_the_edges_of_the_buckets_between_the_extremes():
    rtts = np.sort(np.random.default_rng(5).lognormal(5, 2, 4_000).clip(1, 4e9).astype(np.uint32))
    us, share = ladder_of(*rtts).cdf()
    assert (us[0], share[0], us[-1], share[-1]) == (rtts[0], 0, rtts[-1], 1)
    for edge, part in list(zip(us, share, strict=True))[1:-1]:
        assert part == np.mean(rtts < edge)
    assert (np.diff(us) > 0).all() and (np.diff(share) >= 0).all() and len(us) > 100


def test_the_cdf_is_flat_between_buckets_that_are_apart():
    us, share = ladder_of(100, 101, 5_000, 12_000_000).cdf()
    assert us.tolist() == [100, 106, 4732, 5012, 10_000_000, 12_000_000]
    assert share.tolist() == [0, 0.5, 0.5, 0.75, 0.75, 1]
    us, share = ladder_of(8, 10, 11).cdf()
    assert us.tolist() == [8, 10, 11, 11] and share.tolist() == [0, 1 / 3, 2 / 3, 1]


@pytest.mark.parametrize("us", [8, 250, 12_000_000])
def test_the_cdf_of_equal_round_trips_is_one_step(us):
    assert [points.tolist() for points in ladder_of(us, us).cdf()] == [[us, us], [0, 1]]


def test_the_cdf_of_one_of_many_is_its_own():
    many = together(ladder_of(8), ladder_of(100, 300), ladder_of(12_000_000))
    for at, alone in enumerate((ladder_of(8), ladder_of(100, 300), ladder_of(12_000_000))):
        assert [points.tolist() for points in many.cdf(at)] == [points.tolist() for points in alone.cdf()]


def random_ladders(count: int, seed: int = 0) -> tuple[list[np.ndarray], Ladders]:
    rng = np.random.default_rng(seed)
    rtts = [rng.lognormal(6, 3, rng.integers(0, 40)).clip(1, 4e9).astype(np.uint32) for _ in range(count)]
    return rtts, together(*(ladder_of(*some) for some in rtts))


def assert_counts(sums: LadderSums, row: int, rtts: np.ndarray) -> None:
    assert sums.counts[row].tolist() == np.bincount(ladder_buckets(rtts), minlength=LADDER_BUCKETS).tolist()
    ends = (rtts.min(), rtts.max()) if len(rtts) else (NO_RTT, 0)
    assert (sums.min_us[row], sums.max_us[row]) == ends


def test_a_sum_of_ladders_is_the_ladder_of_all_their_round_trips():
    rtts, _ = random_ladders(50)
    rows = np.random.default_rng(1).integers(0, 4, 50)
    rows[rows == 2] = 3
    sums = LadderSums.empty(5)
    for part in (0, 1):  # added in two steps
        lists = [one for at, one in enumerate(rtts) if at % 2 == part]
        sums.add(rows[part::2], together(*(ladder_of(*some) for some in lists)))
    for row in range(5):
        assert_counts(
            sums, row, np.concatenate([np.empty(0, np.uint32), *(rtts[i] for i in np.flatnonzero(rows == row))])
        )
    back = sums.ladders()
    assert len(back) == 5 and back.totals.tolist() == sums.counts.sum(axis=1).tolist()
    assert back.totals[[2, 4]].tolist() == [0, 0]


def test_rows_that_are_named_once_are_added_to_alike():
    _, ladders = random_ladders(30)
    _, more = random_ladders(30, seed=9)
    rows = np.random.default_rng(2).permutation(40)[:30]
    once, any_number = LadderSums.empty(40), LadderSums.empty(40)
    for part in (ladders, more):
        once.add_once(rows, part)
        any_number.add(rows, part)
    for name in ("counts", "min_us", "max_us"):
        assert np.array_equal(getattr(once, name), getattr(any_number, name)), name


def test_sums_are_folded_to_coarser_ones_and_spread_to_more_rows():
    rtts, ladders = random_ladders(6)
    sums = LadderSums.empty(6)
    sums.add(np.arange(6), ladders)
    coarse = sums.folded(np.array([0, 2, 0, 2, 2, 0]), 3)
    assert_counts(coarse, 0, np.concatenate([rtts[i] for i in (0, 2, 5)]))
    assert_counts(coarse, 1, np.empty(0, np.uint32))
    assert_counts(coarse, 2, np.concatenate([rtts[i] for i in (1, 3, 4)]))
    wide = sums.rows(slice(1, 3)).widened(np.array([3, 0]), 4)
    for row, of in ((0, rtts[2]), (1, rtts[0][:0]), (2, rtts[0][:0]), (3, rtts[1])):
        assert_counts(wide, row, of)


def test_counts_of_a_sum_may_be_larger_than_those_of_its_ladders():
    sums = LadderSums.empty(1)
    for _ in range(3):
        sums.add(np.array([0]), Ladders.of_one([7], [2**32 - 1], 14, 14))
    assert sums.ladders().totals.tolist() == [3 * (2**32 - 1)]
