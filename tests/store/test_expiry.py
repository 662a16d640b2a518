"""What is too old goes; what is ours to keep, and what is not ours, stays."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.pipeline.pictures import EXTENSIONS
from pingmesh_tasks.settings import KEEP_D
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.expiry import ARTIFACTS, GROUPS, GUARDED_FROM, KINDS, Ages, group_of, survey
from pingmesh_tasks.store.objects import StoredObject
from pingmesh_tasks.windows import Window, window_containing

NOW = datetime(2026, 11, 22, 3, 40, tzinfo=UTC)
AGES = Ages(KEEP_D)
PLAN_A, PLAN_B, PLAN_C = ("a" * 16, "b" * 16, "c" * 16)


def at(days: float, length_s: int = 300) -> Window:
    """The window of so many days ago."""
    return window_containing(NOW - timedelta(days=days), length_s)


def entry(key: str, days: float = 0, size: int = 10) -> StoredObject:
    return StoredObject(key, "tag", size, NOW - timedelta(days=days))


def every_key(window: Window) -> list[str]:
    """One key of each form that ages with its window."""
    return [
        layout.raw_probe(window, "host-1.example"),
        layout.quarantined_segment(window, "a"),
        layout.raw_log("access", "east", window),
        layout.raw_log("errors", "east", window),
        layout.quarantined_lines("access", window, "east"),
        layout.table("probe", window, "000-of-002"),
        layout.table("pair_latency_hour", window, "001-of-002"),
        layout.table("mesh_map_day", window, "loss"),
        layout.table("client", window, "east.example"),
        layout.table("normal", window),
        layout.table("host_status", window, "collect-000-of-002"),
        layout.table("notice", window, "10b73f252367-opened1"),
        layout.table("anomaly", window, "mesh"),
        layout.artifact("heatmap", window, "png"),
        layout.artifact("sla_day", window, "csv"),
    ]


def pruned(*entries: StoredObject, ages: Ages = AGES, max_share: float = 1.0) -> list[str]:
    plan = survey(entries, ages, NOW, max_share)
    return [entry.key for entry in entries if plan.prunes(entry)]


def test_windows_older_than_their_kind_may_be_go_and_younger_ones_stay():
    old, young, new = layout.table("probe", at(8)), layout.table("probe", at(6)), layout.table("probe", at(0))
    assert pruned(*map(entry, (old, young, new))) == [old]


def test_every_key_that_the_layout_makes_of_a_window_ages():
    ancient = every_key(at(3_000))
    assert pruned(*map(entry, ancient + every_key(at(0)))) == ancient


def test_every_age_of_the_defaults_is_of_something_and_everything_has_an_age():
    assert set(KEEP_D) <= {*GROUPS, *KINDS}
    assert {group_of(kind) for kind in KINDS} == {*GROUPS, "hot", "control"}
    assert set(EXTENSIONS) < set(ARTIFACTS)


def test_an_object_is_as_old_as_its_window_even_where_the_bucket_was_copied_today():
    old = layout.table("probe", at(8))
    assert pruned(entry(old, days=0), entry(layout.table("probe", at(1)), days=900)) == [old]


def test_hours_and_days_outlive_the_windows_that_they_are_made_of():
    keys = [layout.table(layout.at_level("pair_latency", level), at(100)) for level in ("window", "hour", "day")]
    newest = [layout.table(layout.at_level("pair_latency", level), at(0)) for level in ("window", "hour", "day")]
    assert pruned(*map(entry, keys + newest)) == keys[:1]


def test_an_age_of_one_table_goes_before_that_of_its_group_and_for_good_is_for_good():
    keys = [layout.table(name, at(days)) for name in ("probe", "normal") for days in (5_000, 20, 0)]
    ages = Ages(KEEP_D | {"tables": None, "tables/probe": 3})
    assert pruned(*map(entry, keys), ages=ages) == keys[:2]


def test_an_age_of_what_there_is_not_is_refused_with_what_was_meant():
    with pytest.raises(ConfigError, match="'tables/prob' is not a kind of object; did you mean 'tables/probe'"):
        Ages(KEEP_D | {"tables/prob": 3})
    with pytest.raises(ConfigError, match="'control/pinglist' is not a kind"):
        Ages(KEEP_D | {"control/pinglist": 3})


def test_the_newest_of_each_kind_and_of_each_servers_log_stays_at_any_age():
    """Where a log was left, and what is normal, is read from it."""
    keys = {
        name: [layout.raw_log("access", name, at(days)) for days in (90, 60)] for name in ("left_in_may", "still_here")
    }
    keys["still_here"].append(layout.raw_log("access", "still_here", at(0)))
    maps = [layout.table("mesh_map", at(days), metric) for metric in ("loss", "p50") for days in (90, 60)]
    found = pruned(*map(entry, [*keys["left_in_may"], *keys["still_here"], *maps]))
    assert found == [keys["left_in_may"][0], *keys["still_here"][:2], maps[0], maps[2]]


def test_what_was_said_goes_though_each_notice_has_a_name_of_its_own():
    keys = [layout.table("notice", at(days), f"10b73f25236{days % 10}-opened1") for days in (900, 401, 399, 0)]
    assert pruned(*map(entry, keys)) == keys[:2]


def test_tables_of_a_data_server_that_left_go():
    gone, here = (layout.table("client", at(days), name) for name, days in (("east", 60), ("west", 0)))
    assert pruned(entry(gone), entry(here)) == [gone]


def test_all_shards_of_the_newest_window_stay_and_none_of_an_older_division():
    newest = [layout.table("probe", at(60), layout.shard(n, 3)) for n in range(3)]
    older = [layout.table("probe", at(61), layout.shard(n, 2)) for n in range(2)]
    assert pruned(*map(entry, newest + older)) == older


@pytest.mark.parametrize(
    "key",
    [
        layout.cursor("east", "access"),
        layout.alert_state(),
        layout.hot_cursor(),
        layout.latest_artifact("heatmap", "png"),
        "hot/state.json",
        "inventory.yaml",
        "tables/mine/date=2020-01-01/hour=00/20200101T000000Z.parquet",  # of no table of ours
        "artifacts/holiday/date=2020-01-01/hour=00/20200101T000000Z.png",
        "quarantine/mine/date=2020-01-01/hour=00/20200101T000000Z.a.ndjson",
        "tables/probe/date=2020-01-02/hour=00/20200101T000000Z.parquet",  # does not agree with itself
        "tables/probe/date=2020-01-01/hour=01/20200101T000000Z.parquet",
        "tables/probe/date=2020-01-01/hour=00/20200101T000030Z.parquet",  # begins within a minute
        "tables/probe/date=2020-02-31/hour=00/20200231T000000Z.parquet",
        "tables/probe/date=0001-01-01/hour=00/00010101T000000Z.parquet",
        "tables/probe/date=٢٠٢٠-01-01/hour=00/20200101T000000Z.parquet",
        "tables/probe/date=2020-01-01/hour=00/20200101T000000Z.parquet.bak",
        "tables/probe/date=2020-01-01/hour=00/20200101T000000Z.parquet\n",
        "tables/probe/date=2020-01-01/hour=00/20200101T000000Z.a/b.parquet",
        "tables/probe/date=2020-01-01/hour=00/20200101T000000Z",
        "tables/probe/20200101T000000Z.parquet",
        "backup/tables/probe/date=2020-01-01/hour=00/20200101T000000Z.parquet",
        "raw/probe/date=2020-01-01/hour=00/20200101T000000Z/.ssh.pms",
        "raw/probe/date=2020-01-01/hour=00/20200101T000000Z/../a.pms",
        "raw/access/server=../date=2020-01-01/hour=00/20200101T000000Z.log.zst",
        "control/pinglist/README.md",
        "control/pinglist/" + "a" * 16 + ".json.old",
        "",
        "/",
    ],
)
def test_whatever_is_not_a_window_of_ours_stays(key):
    around = [entry(layout.table(table, at(days))) for table in ("probe", "normal") for days in (0, 1, 2)]
    assert pruned(entry(key, days=5_000), *around) == []


def test_what_is_not_ours_is_counted():
    assert survey([entry("a"), entry("b/c"), entry(layout.table("probe", at(0)))], AGES, NOW).strangers == 2


def test_what_came_between_planning_and_deleting_stays():
    plan = survey([entry(layout.table("probe", at(days))) for days in (0, 60)], AGES, NOW)
    assert not plan.prunes(entry(layout.table("client", at(60), "restored")))


def test_windows_of_a_time_to_come_stay():
    keys = [layout.table("probe", at(-400)), layout.table("probe", at(6))]
    assert pruned(*map(entry, keys)) == []


# ---------------------------------------------------------------- hot batches


def test_hot_batches_go_when_the_follower_would_delete_them():
    ms = round(NOW.timestamp() * 1000)
    keys = [layout.hot_batch(ms - h * 3_600_000, "0a0b0c0d", 1, notable=False) for h in (30, 25, 23, 0)]
    assert pruned(*map(entry, keys), max_share=0.01) == keys[:2]
    assert pruned(*map(entry, keys[:2])) == keys[:2]  # it is gone: nothing of them is a state


# ---------------------------------------------------------------- plans


def test_a_plan_stays_as_long_as_a_window_that_may_name_it():
    a, b, c = (layout.plan(version) for version in (PLAN_A, PLAN_B, PLAN_C))
    plans = [entry(a, days=500), entry(b, days=390), entry(c, days=0)]  # when it was last in use
    hours = [layout.table("group_latency_hour", at(days, 3600), "mesh") for days in (500, 390, 0)]
    assert pruned(*plans, *map(entry, hours)) == [a, hours[0]]
    assert pruned(*plans, *map(entry, [*hours, layout.table("mesh_map_day", at(500, 86400), "loss")])) == [hours[0]]


def test_a_plan_of_the_only_window_there_is_stays_at_any_age():
    window = entry(layout.table("group_latency", at(900), "mesh"))
    assert pruned(entry(layout.plan(PLAN_A), days=900), entry(layout.plan(PLAN_B), days=1), window) == []


def test_plans_without_any_window_stay_two_days_and_the_newest_for_good():
    a, b, c = (layout.plan(version) for version in (PLAN_A, PLAN_B, PLAN_C))
    assert pruned(entry(a, days=3), entry(b, days=1.9), entry(c, days=1)) == [a]
    assert pruned(entry(a, days=90), entry(b, days=80)) == [a]


def test_a_plan_that_is_in_use_again_between_planning_and_deleting_stays():
    old = entry(layout.plan(PLAN_A), days=90)
    plan = survey([old, entry(layout.plan(PLAN_B), days=0)], AGES, NOW)
    assert plan.prunes(old)
    assert not plan.prunes(entry(old.key, days=0))


def test_plans_of_windows_that_a_guard_keeps_stay():
    windows = [entry(layout.table("pair_latency", at(100 + n))) for n in range(GUARDED_FROM)]
    plans = [entry(layout.plan(PLAN_A), days=190), entry(layout.plan(PLAN_B), days=0)]
    assert pruned(*windows, *plans, max_share=0.5) == []
    assert len(pruned(*windows, *plans)) == GUARDED_FROM - 1 + 1


# ---------------------------------------------------------------- the guard


def test_more_of_a_kind_than_is_allowed_is_left_alone_and_the_others_go():
    probes = [entry(layout.table("probe", at(n / 10))) for n in range(200)]
    logs = [entry(layout.raw_log("access", "east", at(n / 20))) for n in range(200)]
    plan = survey([*probes, *logs], AGES, NOW, max_share=0.5)
    assert plan.refused == ("tables/probe",)
    assert not any(map(plan.prunes, probes))
    assert sum(map(plan.prunes, logs)) == plan.old["raw/access"].objects == 59


def test_of_a_few_objects_any_share_may_go():
    probes = [entry(layout.table("probe", at(10 + n / 10))) for n in range(GUARDED_FROM - 1)]
    assert len(pruned(*probes, max_share=0.1)) == GUARDED_FROM - 2


def test_a_clock_that_is_years_ahead_deletes_nothing_that_counts():
    probes = [entry(layout.table("probe", at(n / 100))) for n in range(GUARDED_FROM)]
    plan = survey(probes, AGES, NOW + timedelta(days=3_650), max_share=0.5)
    assert not any(map(plan.prunes, probes))


# ---------------------------------------------------------------- what is told


def test_what_is_told_is_what_is_done_whatever_the_order_of_the_listing():
    chance = random.Random(7)
    entries = [
        entry(key, days, chance.randrange(1_000))
        for days in (chance.uniform(0, 60) for _ in range(150))
        for key in chance.sample(every_key(at(days)), 3)
    ]
    entries += [entry(layout.raw_log("access", f"gone{n}", at(40 + n + m)), 0, 5) for n in range(5) for m in range(n)]
    entries += [entry(layout.plan(f"{n:016x}"), days=n, size=7) for n in range(99)]
    kinds = {e.key: layout.facts(e.key).kind for e in entries}
    for _ in range(3):
        chance.shuffle(entries)
        plan = survey(entries, AGES, NOW)
        gone = [e for e in entries if plan.prunes(e)]
        for kind, pile in plan.old.items():
            mine = [e for e in gone if kinds[e.key] == kind]
            starts = [layout.facts(e.key).start or e.modified for e in mine]
            assert (pile.objects, pile.size) == (len(mine), sum(e.size for e in mine))
            assert (pile.oldest, pile.newest) == (min(starts, default=None), max(starts, default=None))
            assert plan.all[kind].objects == sum(kinds[e.key] == kind for e in entries)


def test_after_a_run_the_next_finds_nothing_to_delete():
    entries = [entry(key, days) for days in range(0, 3_000, 7) for key in every_key(at(days))]
    entries += [entry(layout.plan(f"{n:016x}"), days=n) for n in range(0, 3_000, 10)]
    plan = survey(entries, AGES, NOW)
    left = [e for e in entries if not plan.prunes(e)]
    assert len(left) < len(entries)
    again = survey(left, AGES, NOW)
    assert not any(map(again.prunes, left))
