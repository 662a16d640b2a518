from dataclasses import replace
from datetime import timedelta
from functools import cache

import polars as pl
import pytest

from pingmesh_tasks.detect.access import baseline
from pingmesh_tasks.detect.access.baseline import MEASURES, RECENT, update_access_baseline
from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.errors import StoreError
from pingmesh_tasks.store.schemas import ACCESS_NORMAL, LOG_STATUS, check_schema
from tests.support.access_frames import SERVER, WINDOW, Log

MINUTE_APART = load_rules(
    "rules: {new_user: {history_h: 1}, new_client: {history_h: 1}, new_country: {history_h: 1}}", "r"
)


def country_of(addresses):
    return ["DE" if address.startswith("10.7.") else "local" for address in addresses]


def view_of(log, window=WINDOW, lane="window", **more):
    if not hasattr(log, "tables"):
        log.tables = log.frames()
    client, operation = log.tables
    moved = window.start - WINDOW.start
    client, operation = (frame.with_columns(pl.col("link_time") + moved) for frame in (client, operation))
    return AccessView(SERVER, window.end, 300, lane, client, operation, country_of=country_of, **more)


@cache
def day(per_min=20, users=("anna", "bob"), connects=1):
    """A window in which each user does so many operations a minute, by a process of its own."""
    log = Log()
    for number, user in enumerate(users):
        for minute in range(5):
            for again in range(connects):
                log.on(user, 60 * minute, pid=500 + number + 50 * again, socket=0, address=f"10.0.0.{number}")
            for count in range(per_min):
                log.op(60 * minute + count % 60, pid=500 + number, hook_type="GetNci", node=rf"\EAST::N{count % 7}")
    log.lines.sort(key=lambda line: line["link_time"])
    for number, line in enumerate(log.lines):
        line["offset"] = 100 * number
    return log


def learned(log, windows=20, before=None, first=0):
    for number in range(first, first + windows):
        window = WINDOW.shifted(number)
        before = update_access_baseline(before, view_of(log, window), window)
    return before


@cache
def usual():
    return learned(day(per_min=60), windows=25)


def row(normal, dimension, measure, key=None):
    [found] = normal.filter(
        pl.col("dimension") == dimension, pl.col("measure") == measure, pl.col("key").eq_missing(pl.lit(key))
    ).to_dicts()
    return found


def suspects(evaluation):
    return [(finding.rule, finding.scope, finding.subject) for finding in evaluation.findings]


class TestTheTable:
    def test_has_the_busiest_minute_of_every_user_client_and_node(self):
        normal = learned(day(), windows=3)
        check_schema("access_normal", normal)
        assert row(normal, "user", "operations", "bob")["median"] == 20
        assert row(normal, "client", "operations", "10.0.0.1")["recent"] == [20, 20, 20]
        assert row(normal, "node", "operations", r"EAST/\EAST::N0")["upper"] == 6
        assert row(normal, "all", "connects")["upper"] == 2
        assert set(normal["measure"]) <= {measure for measures in MEASURES.values() for measure in measures}

    def test_says_when_a_key_was_seen(self):
        normal = learned(day(), windows=2)
        normal = learned(day(users=("anna",)), windows=2, before=normal, first=2)
        bob, anna = row(normal, "user", "connects", "bob"), row(normal, "user", "connects", "anna")
        assert (bob["windows"], bob["last_seen"]) == (2, WINDOW.shifted(1).end)
        assert (anna["windows"], anna["first_seen"], anna["last_seen"]) == (4, WINDOW.start, WINDOW.shifted(3).end)

    def test_keeps_the_newest_values_only(self):
        normal = learned(day(users=("anna",)), windows=RECENT + 5)
        assert len(row(normal, "user", "connects", "anna")["recent"]) == RECENT
        assert row(normal, "user", "connects", "anna")["windows"] == RECENT + 5

    def test_follows_from_the_one_before_and_the_window(self):
        before = learned(day(), windows=3)
        window = WINDOW.shifted(3)
        again = [update_access_baseline(before, view_of(day(30), window), window) for _ in range(2)]
        assert again[0].equals(again[1])

    def test_learns_a_window_once(self):
        with pytest.raises(StoreError, match="knows window 20261121T220500Z already"):
            update_access_baseline(learned(day(), windows=1), view_of(day()), WINDOW)

    def test_learns_nothing_of_a_window_whose_log_was_not_read(self):
        before = learned(day(), windows=2)
        status = {"window": WINDOW.start, "server": SERVER, "kind": "access", "outcome": "missing"}
        view = view_of(Log(), WINDOW.shifted(2), log_status=pl.DataFrame([status], schema=LOG_STATUS))
        assert update_access_baseline(before, view, WINDOW.shifted(2)).equals(before)

    def test_does_not_grow_with_names_that_somebody_makes_up(self, monkeypatch):
        monkeypatch.setattr(baseline, "MOST_KEYS", 50)
        normal = learned(day(), windows=3)
        for number in range(3, 8):
            crowd = tuple(f"x{number}-{name}" for name in range(40))
            normal = learned(day(per_min=1, users=("anna", "bob", *crowd)), windows=1, before=normal, first=number)
        users = set(normal.filter(pl.col("dimension") == "user")["key"])
        assert len(users) == 50 and {"anna", "bob", "x7-1"} <= users

    def test_forgets_who_has_been_away_for_long(self):
        normal = learned(day(), windows=2)
        later = WINDOW.shifted(100 * 288)
        normal = update_access_baseline(normal, view_of(day(users=("anna",)), later), later)
        assert set(normal.filter(pl.col("dimension") == "user")["key"]) == {"anna"}

    def test_is_of_one_server(self):
        other = learned(day(), windows=1).with_columns(server=pl.lit("west"))
        normal = update_access_baseline(other, view_of(day()), WINDOW)
        assert set(normal["server"]) == {SERVER} and set(normal["windows"]) == {1}

    def test_of_no_lines_is_empty(self):
        assert update_access_baseline(None, view_of(Log()), WINDOW).schema == ACCESS_NORMAL


class TestMoreThanUsual:
    def test_is_found_below_the_fixed_limit(self):
        normal = learned(day(per_min=400))
        [finding] = evaluate_access(view_of(day(per_min=2_000, users=("bob",)), normal=normal)).findings
        assert (finding.rule, finding.scope, finding.subject) == ("user_rate", "user", "bob")
        assert (finding.severity, finding.normal, finding.threshold) == ("warning", 400, 1_600)
        assert "usually at most 400" in finding.detail

    def test_is_not_what_is_usual(self):
        assert not evaluate_access(view_of(day(per_min=2_000), normal=learned(day(per_min=1_500)))).findings

    def test_is_not_what_is_little(self):
        assert not evaluate_access(view_of(day(per_min=600), normal=learned(day(per_min=5)))).findings

    @pytest.mark.parametrize("limit", ["times_normal: 1000", "least: 90000", "min_windows: 21"])
    def test_can_be_usual_for_one_user(self, limit):
        view = view_of(day(per_min=2_000, users=("bob",)), normal=learned(day()))
        by_user = {
            user: load_rules(f"scopes: [{{where: {{user: {user}}}, rules: {{user_rate: {{{limit}}}}}}}]", "r")
            for user in ("anna", "bob")
        }
        assert suspects(evaluate_access(view, by_user["anna"])) == [("user_rate", "user", "bob")]
        assert suspects(evaluate_access(view, by_user["bob"])) == []

    def test_is_not_judged_before_there_is_history(self):
        normal = learned(day(per_min=400), windows=5)
        assert not evaluate_access(view_of(day(per_min=2_000), normal=normal)).findings

    def test_of_connections_counts_too(self):
        normal = learned(day(connects=2))
        found = suspects(evaluate_access(view_of(day(users=("bob",), connects=150), normal=normal)))
        assert found == [("connect_rate", "user", "bob")]

    def test_stays_so_after_windows_of_flood(self):
        normal = learned(day(per_min=400), windows=30)
        normal = learned(day(per_min=5_000), windows=3, before=normal, first=30)
        assert row(normal, "user", "operations", "bob")["upper"] == 400

    def test_is_learned_by_at_most_twice_what_was_usual(self):
        normal = learned(day(per_min=100), windows=20)
        normal = learned(day(per_min=2_000), windows=3, before=normal, first=20)
        assert row(normal, "user", "operations", "bob")["recent"][-3:] == [200, 200, 200]

    def test_becomes_usual_where_it_lasts(self):
        normal = learned(day(per_min=400), windows=30)
        normal = learned(day(per_min=1_700), windows=30, before=normal, first=30)
        assert not evaluate_access(view_of(day(per_min=1_700), normal=normal)).findings


class TestStrangers:
    def came(self, user, address, window, lane="hot"):
        log = Log()
        log.on(user, 1, pid=900, socket=0, address=address)
        return view_of(log, window, lane)

    @pytest.mark.parametrize("lane", ["hot", "window"])
    @pytest.mark.parametrize(
        ("user", "address", "expected"),
        [
            ("bob", "10.0.0.1", []),
            ("eve", "10.0.0.1", [("new_user", "user", "eve")]),
            ("bob", "10.0.0.77", [("new_client", "client", "10.0.0.77")]),
            ("bob", "10.7.0.1", [("new_country", "user", "bob")]),
            ("eve", "10.7.0.1", [("new_country", "user", "eve")]),
        ],
    )
    def test_are_found_once_by_what_is_rarest_about_them(self, lane, user, address, expected):
        view = replace(self.came(user, address, WINDOW.shifted(25), lane), normal=usual())
        assert suspects(evaluate_access(view, MINUTE_APART)) == expected

    def test_are_nobody_without_history(self):
        evaluation = evaluate_access(replace(self.came("eve", "10.7.0.1", WINDOW.shifted(25)), normal=usual()))
        assert not evaluation.findings and not {"new_user", "new_client", "new_country"} & evaluation.judged
        assert evaluation.unjudged["user", "* (new_user)"].startswith("no history yet")

    def test_are_one_finding_where_they_are_a_crowd(self):
        log = Log()
        for number in range(30):
            log.on(f"guest{number}", number, pid=900 + number, socket=0, address="10.0.0.1")
        view = replace(view_of(log, WINDOW.shifted(25), "hot"), normal=usual())
        [finding] = evaluate_access(view, MINUTE_APART).findings
        assert (finding.rule, finding.scope, finding.value) == ("new_user", "server", 30)

    def test_are_no_news_where_new_names_come_all_the_time(self):
        normal = None
        for number in range(20):
            window = WINDOW.shifted(number)
            normal = update_access_baseline(normal, view_of(day(5, users=("anna", f"guest{number}")), window), window)
        evaluation = evaluate_access(
            replace(self.came("eve", "10.0.0.1", WINDOW.shifted(20)), normal=normal), MINUTE_APART
        )
        assert not evaluation.findings
        assert "new names are usual here" in evaluation.unjudged["user", "* (new_user)"]


class TestSilence:
    def quiet(self, silent_s, **more):
        return view_of(Log(), WINDOW.shifted(25), "hot", silent_s=silent_s, **more)

    def test_longer_than_ever_is_a_finding(self):
        [finding] = evaluate_access(self.quiet(600.0, normal=usual(), up=True)).findings
        assert (finding.rule, finding.scope, finding.value, finding.severity) == ("log_silent", "log", 600, "critical")
        assert finding.since == WINDOW.shifted(25).end - timedelta(seconds=600)

    def test_is_less_sure_where_nobody_knows_that_the_machine_is_up(self):
        [finding] = evaluate_access(self.quiet(600.0, normal=usual())).findings
        assert finding.confidence < 1

    @pytest.mark.parametrize("silent_s", [60.0, 110.0])
    def test_for_a_moment_is_none(self, silent_s):
        evaluation = evaluate_access(self.quiet(silent_s, normal=usual(), up=True))
        assert not evaluation.findings and "log_silent" in evaluation.judged

    def test_of_a_log_that_is_often_silent_is_none(self):
        log = Log()
        log.on("anna", 0, pid=500, socket=0)
        log.op(250, pid=500)
        assert not evaluate_access(self.quiet(600.0, normal=learned(log), up=True)).findings
