from datetime import timedelta

import polars as pl
import pytest

from pingmesh_tasks.access import usage as access_usage
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.render import usage_figures
from pingmesh_tasks.render.usage_figures import attribution, build_report, format_hms, legible
from pingmesh_tasks.windows import Window
from tests.support.usage_frames import DAY, HOSTILE, ONLINE, WINDOW, busy, online_rows, usage_rows

NOBODY = ONLINE.to_frame()


def hours(*by):
    """Usage of consecutive hours of DAY."""
    return pl.concat([usage_rows(one, window=DAY.start + timedelta(hours=i)) for i, one in enumerate(by)])


def test_measures_merge_as_the_table_that_they_are_of_says():
    how = {"sum": set(), "max": set(), "last": set()}
    for measure, rule in access_usage.MEASURES.items():
        how[rule].add(measure)
    assert how["max"] == usage_figures.GREATEST and how["last"] == usage_figures.NEWEST
    assert usage_figures.NO_NODE == access_usage.NO_NODE
    listed = {column[0] for spec in usage_figures.LISTS for column in spec[4]}
    assert listed <= set(access_usage.MEASURES)


def test_over_windows_counts_add_up_peaks_are_the_greatest_and_online_is_of_the_newest():
    usage = hours(
        {("connects", "all"): {None: 5}, ("users_online_peak", "all"): {None: 8}, ("users_online", "all"): {None: 7}},
        {("connects", "all"): {None: 2}, ("users_online_peak", "all"): {None: 3}, ("users_online", "all"): {None: 1}},
    )
    assert build_report(usage, NOBODY, DAY).totals == {"connects": 7, "users_online_peak": 8, "users_online": 1}


def test_who_is_online_now_is_not_known_of_a_server_that_was_not_heard_of_in_the_newest_window():
    online = {("users_online", "all"): {None: 4}, ("connects", "all"): {None: 1}}
    later = DAY.start + timedelta(hours=1)
    usage = pl.concat([usage_rows(online, window=DAY.start, server="quiet"), usage_rows(online, window=later)])
    assert build_report(usage, NOBODY, DAY).totals == {"users_online": 4, "connects": 2}
    assert build_report(usage, NOBODY, DAY, "quiet").totals == {"connects": 1}
    assert access_usage.merge_usage(usage, DAY).filter(measure="users_online")["server"].to_list() == ["east"]


def test_windows_and_their_merged_rows_make_the_same_lists():
    parts = pl.concat([busy(("a", "b", "c")[i:], window=DAY.start + timedelta(hours=i), scale=i + 1) for i in range(3)])
    merged = build_report(access_usage.merge_usage(parts, DAY), NOBODY, DAY)
    several = build_report(parts, NOBODY, DAY)
    assert several.listings == merged.listings and several.totals == merged.totals


def test_peaks_of_several_data_servers_do_not_add_up_but_counts_do():
    both = pl.concat([busy(("a",), server="east"), busy(("a", "b"), server="west")])
    report = build_report(both, NOBODY, WINDOW)
    assert report.servers == ("east", "west") and report.totals["users_online_peak"] == 9
    assert report.listings["users"].rows[0] == ("a", (2_000, 2_000, 2_000))
    assert dict(report.listings["longest"].rows) == {"a": (1_000,), "b": (993,)}
    assert [key for key, _ in report.listings["servers"].rows] == ["west", "east"]


def test_a_figure_that_may_be_among_the_rest_is_not_known_and_one_that_cannot_be_is_zero():
    usage = usage_rows({("operations", "user"): {"a": 4, None: 9}, ("connects", "user"): {"a": 1, "b": 2}})
    users = build_report(usage, NOBODY, WINDOW).listings["users"]
    assert users.rows == (("a", (4, 1)), ("b", (None, 2))) and users.rest == (9, 0)


def test_a_measure_that_nobody_took_is_no_column():
    listings = build_report(usage_rows({("connects", "user"): {"a": 1}}), NOBODY, WINDOW).listings
    assert [measure for measure, _ in listings["users"].columns] == ["connects"]
    assert [measure for measure, _ in listings["nodes"].columns] == ["operations"] and not listings["nodes"].rows


def test_operations_on_a_whole_tree_are_no_wanted_signal_but_are_told():
    nodes = {"N/A": 50, r"\EAST::IP": 3, None: 2}
    listing = build_report(usage_rows({("operations", "node"): nodes}), NOBODY, WINDOW).listings["nodes"]
    assert listing.rows == ((r"\EAST::IP", (3,)),) and listing.rest == (2,) and listing.note.startswith("50 operations")


def test_a_list_has_a_hundred_rows_and_the_rest_is_summed_up():
    values = {f"user{i:03}": 200 - i for i in range(130)} | {None: 1}
    users = build_report(usage_rows({("operations", "user"): values}), NOBODY, WINDOW).listings["users"]
    assert len(users.rows) == 100 and users.rest == (1 + sum(200 - i for i in range(100, 130)),)


def test_operations_by_type_stand_in_the_span_of_their_window_and_gaps_stay_gaps():
    first, third = ({("operations", "hook_type"): {"GetData": n, "OpenTree": 1}} for n in (5, 7))
    types = build_report(hours(first, {}, third), NOBODY, Window(DAY.start, 10_800)).types
    assert types.span_s == 7_200 // 2 and types.types == ("GetData", "OpenTree")
    assert types.counts == ((5, 0, 7), (1, 0, 1))


def test_rare_types_are_drawn_as_one_and_a_day_of_minutes_in_no_more_spans_than_can_be_seen():
    kinds = {f"Type{i}": 100 - i for i in range(9)}
    usage = pl.concat(
        [usage_rows({("operations", "hook_type"): kinds}, window=DAY.start + timedelta(minutes=i)) for i in range(1440)]
    )
    types = build_report(usage, NOBODY, DAY).types
    assert types.types == ("Type0", "Type1", "Type2", "Type3", "Type4", "other types")
    assert len(types.starts) <= 288 and sum(map(sum, types.counts)) == 1440 * sum(kinds.values())


def test_one_window_has_no_types_over_time():
    assert build_report(busy(("a",)), NOBODY, WINDOW).types is None


@pytest.mark.parametrize(
    ("operations", "untied", "said"),
    [
        (0, 0, ""),
        (10, 0, "Every operation is tied"),
        (10, 10, "No operation could be tied"),
        (1_000_000, 1, "<0.01 % of the operations (1) could not"),
        (200, 50, "25 % of the operations (50) could not"),
    ],
)
def test_attribution_is_said_in_words(operations, untied, said):
    words = attribution({"operations": operations, "operations_untied": untied})
    assert words.startswith(said) and bool(words) == bool(said)


def test_rows_of_another_window_or_shape_are_refused():
    with pytest.raises(StoreError, match="usage: rows are not of window 20261121T220500Z"):
        build_report(busy(("a",), window=WINDOW.end), NOBODY, WINDOW)
    with pytest.raises(StoreError, match="users online: rows are not"):
        build_report(busy(("a",)), online_rows(DAY), WINDOW)
    with pytest.raises(StoreError, match="users online: the columns"):
        build_report(busy(("a",)), NOBODY.drop("users"), WINDOW)


def test_a_window_in_which_nothing_was_is_empty_and_one_with_somebody_online_is_not():
    zeros = usage_rows({("connects", "all"): {None: 0}})
    assert build_report(zeros, NOBODY, WINDOW).is_empty and build_report(zeros.clear(), NOBODY, WINDOW).is_empty
    assert not build_report(zeros, online_rows(), WINDOW).is_empty


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_legible_name_is_one_line_of_visible_characters(name):
    assert legible(name).isprintable() and legible(name).count("\u0301") <= 2


def test_what_shows_nothing_or_turns_text_around_is_spelled_out():
    assert legible("  ") == '"  "' and legible("") == '""'
    assert legible("a\x1b[31m\u202eb") == "a\\u001b[31m\\u202eb" and legible("עדי 陈 é") == "עדי 陈 é"


def test_lengths_are_hours_minutes_and_seconds_without_an_end():
    assert [format_hms(s) for s in (0, 65, 3_725, 360_000)] == ["0:00:00", "0:01:05", "1:02:05", "100:00:00"]
