from dataclasses import replace
from datetime import timedelta

import polars as pl
import pytest

from pingmesh_tasks.access.sessions import pair_sessions
from pingmesh_tasks.detect.access.baseline import update_access_baseline
from pingmesh_tasks.detect.access.evaluate import AccessView, evaluate_access
from pingmesh_tasks.detect.finding import anomaly_rows
from pingmesh_tasks.detect.rules import DEFAULT_RULES
from pingmesh_tasks.detect.rules_file import load_rules
from pingmesh_tasks.store.schemas import LOG_STATUS
from tests.support.access_frames import SERVER, WINDOW, Log, errors
from tests.support.anomaly_rows import findings_of
from tests.support.usage_frames import HOSTILE


def window_view(log, **more):
    client, operation = log.frames()
    session = pair_sessions(client, None, WINDOW, operation=operation).table
    return AccessView(SERVER, WINDOW.end, 300, "window", client, operation, session=session, **more)


def hot_view(log, until_s=60, **more):
    client, operation = log.frames()
    return AccessView(SERVER, WINDOW.start + timedelta(seconds=until_s), 60, "hot", client, operation, **more)


def known(log):
    """What is usual after one window in which `log` was read."""
    row = {"kind": "access", "outcome": "grown"}
    read = pl.DataFrame([dict.fromkeys(LOG_STATUS) | row], schema=LOG_STATUS)
    return update_access_baseline(None, window_view(log, log_status=read), WINDOW)


def suspects(evaluation):
    return [(finding.rule, finding.scope, finding.subject) for finding in evaluation.findings]


def inetd(reads=0, *, user="bob", pid=500, per_s=20, begin_s=0.0, **fields):
    """A server with a process a client; `user` reads one node so many times."""
    log = Log()
    log.on(user, begin_s, pid=pid, socket=0)
    for number in range(reads):
        log.op(begin_s + number / per_s, pid=pid, **fields)
    return log


def busy_server(log, seconds=60, pid=77):
    """Thirty sessions that read this and that, in one process for all."""
    for number in range(30):
        log.on(f"user{number:02d}", 0.0, pid=pid, socket=10 + number, address=f"10.0.1.{number}")
    for second in range(seconds):
        for number in range(10):
            log.op(second + number / 10, pid=pid, node=rf"\EAST::SIGNAL{(7 * second + number) % 40:02d}")
    return log


def in_order(log):
    log.lines.sort(key=lambda line: line["link_time"])
    for number, line in enumerate(log.lines):
        line["offset"] = 100 * number
    return log


class TestAUserWhoReadsOneNodeOverAndOver:
    def test_is_one_finding_that_names_user_client_and_node(self):
        [finding] = evaluate_access(hot_view(inetd(1_000))).findings
        assert (finding.rule, finding.scope, finding.subject) == ("heavy_reads", "user", "bob")
        assert r"EAST/\EAST::IP" in finding.detail and "10.0.0.1" in finding.detail
        assert finding.value >= finding.threshold and finding.unit == "reads/min"

    def test_is_found_after_three_seconds_in_the_hot_lane(self):
        assert not evaluate_access(hot_view(inetd(20), until_s=3)).findings
        assert suspects(evaluate_access(hot_view(inetd(60), until_s=3))) == [("heavy_reads", "user", "bob")]

    def test_is_found_in_the_window_lane_too(self):
        assert suspects(evaluate_access(window_view(inetd(1_000)))) == [("heavy_reads", "user", "bob")]

    def test_is_no_busy_user_node_client_and_server_besides(self):
        evaluation = evaluate_access(hot_view(inetd(8_000, per_s=140)))
        assert suspects(evaluation) == [("heavy_reads", "user", "bob")]
        assert {"user_rate", "node_rate", "client_rate"} <= evaluation.judged

    def test_is_no_busy_node_besides_for_his_lines_are_taken_away(self):
        evaluation = evaluate_access(hot_view(inetd(3_900, per_s=65)))
        assert suspects(evaluation) == [("heavy_reads", "user", "bob")] and "node_rate" in evaluation.judged

    def test_is_a_process_where_nothing_else_is_known(self):
        log = Log()
        log.on("anna", pid=400, socket=0)
        for number in range(400):
            log.op(number / 20, pid=500)
        [finding] = evaluate_access(hot_view(log)).findings
        assert (finding.scope, finding.subject) == ("node", r"EAST/\EAST::IP")
        assert "nothing is known but process 500" in finding.detail

    def test_may_use_as_many_processes_as_he_likes(self):
        log = Log()
        for number in range(100):
            log.on("bob", number / 2, pid=1_000 + number, socket=0)
            for _ in range(9):
                log.op(number / 2, pid=1_000 + number)
        assert suspects(evaluate_access(window_view(log))) == [("heavy_reads", "user", "bob")]

    def test_is_named_by_a_session_that_began_before_the_lines_at_hand(self):
        began, reads = inetd(), Log()
        for number in range(100):
            reads.op(30 + number / 20, pid=500)
        client, operation = began.frames()
        open_sessions = pair_sessions(client, None, WINDOW, operation=operation).table
        [finding] = evaluate_access(hot_view(reads, session=open_sessions)).findings
        assert finding.subject == "bob"

    def test_is_the_suspect_of_his_other_process_too_of_which_nobody_knows_the_beginning(self):
        log = inetd(400)
        for number in range(400):
            log.op(20 + number / 20, pid=400)
        assert suspects(evaluate_access(hot_view(in_order(log), until_s=40))) == [("heavy_reads", "user", "bob")]

    def test_may_read_the_same_node_of_many_shots(self):
        log = Log()
        log.on("bob", pid=500, socket=0)
        for number in range(1_000):
            log.op(number / 20, pid=500, shot=137_000 + number)
        assert not evaluate_access(hot_view(log)).findings

    def test_reads_a_whole_tree_node_by_node(self):
        log = Log()
        log.on("bob", pid=500, socket=0)
        for number in range(2_000):
            log.op(number / 40, pid=500, node=rf"\EAST::TOP:N{number}")
        [finding] = evaluate_access(hot_view(log)).findings
        assert (finding.scope, finding.subject, finding.unit) == ("user", "bob", "nodes/min")
        assert "node by node" in finding.detail


class TestOneProcessForAllClients:
    def test_names_the_node_and_accuses_nobody(self):
        log = busy_server(Log())
        log.on("bob", 40, socket=99)
        for number in range(400):
            log.op(40 + number / 20)
        [finding] = evaluate_access(hot_view(in_order(log))).findings
        assert (finding.rule, finding.scope, finding.subject) == ("heavy_reads", "node", r"EAST/\EAST::IP")
        assert "no user can be held responsible" in finding.detail

    def test_says_who_came_with_the_flood_as_a_hint(self):
        log = busy_server(Log())
        log.on("bob", 40, socket=99)
        for number in range(400):
            log.op(40 + number / 20)
        [finding] = evaluate_access(hot_view(in_order(log))).findings
        assert "it may be bob" in finding.detail
        assert [row["connected"] for row in finding.evidence if "connected" in row] == ["bob"]

    def test_says_that_users_cannot_be_judged(self):
        evaluation = evaluate_access(hot_view(busy_server(Log())))
        assert "no user can be held responsible" in evaluation.unjudged["user", "* (user_rate)"]
        assert not {"user_rate", "client_rate"} & evaluation.judged and not evaluation.findings

    def test_has_a_signal_in_demand_without_an_alarm(self):
        log = busy_server(Log())
        for second in range(60):
            for _ in range(5):
                log.op(float(second))
        assert not evaluate_access(hot_view(in_order(log))).findings

    def test_takes_no_burst_for_a_flood_when_it_does_not_know_what_was_before(self):
        log = Log()
        for number in range(200):
            log.op(number / 50)
        assert not evaluate_access(hot_view(log, until_s=4)).findings

    def test_is_too_busy_as_a_whole(self):
        log = Log()
        for number in range(2_000):
            log.op(number / 50, hook_type="GetNci", node=rf"\EAST::N{number}")
        rules = load_rules("rules: {no_attribution: {operations_per_min: 1500}}", "rules.yaml")
        [finding] = evaluate_access(hot_view(log), rules).findings
        assert (finding.rule, finding.scope, finding.subject) == ("no_attribution", "server", SERVER)
        assert finding.evidence[0]["pid"] == 77

    @pytest.mark.parametrize("users", [("bob",), ("bob", "carol")])
    def test_tells_clients_apart_where_the_hook_lines_do(self, users):
        log = Log()
        for number, user in enumerate(users):
            log.on(user, socket=4 + number, address="10.0.0.9")
        for number in range(400):
            log.op(number / 20, client="10.0.0.9", thread=5)
        [finding] = evaluate_access(hot_view(log)).findings
        both = len(users) == 2  # then the address is all that is sure
        assert (finding.scope, finding.subject) == (("client", "10.0.0.9") if both else ("user", "bob"))


class TestTooMuchOfEverything:
    def test_of_operations_by_a_user(self):
        log = Log()
        log.on("bob", pid=500, socket=0)
        for number in range(6_500):
            log.op(number / 120, pid=500, hook_type="GetNci", node=rf"\EAST::N{number % 900}")
        [finding] = evaluate_access(window_view(log)).findings
        assert (finding.rule, finding.subject, finding.affected) == ("user_rate", "bob", 6_500)
        assert finding.evidence[0]["tree"] == "EAST"

    def test_of_operations_from_a_client_that_many_users_share(self):
        log = Log()
        for user in range(20):
            log.on(f"u{user}", pid=500 + user, socket=0, address="10.0.0.5")
        for number in range(13_000):
            log.op(number / 250, pid=500 + number % 20, hook_type="GetNci", node=rf"\EAST::N{number % 900}")
        assert suspects(evaluate_access(window_view(log))) == [("client_rate", "client", "10.0.0.5")]

    def test_of_operations_on_a_node_by_all_together(self):
        log = Log()
        for user in range(100):
            log.on(f"u{user}", pid=500 + user, socket=0, address=f"10.0.0.{user}")
        for number in range(3_500):
            log.op(number / 60, pid=500 + number % 100, hook_type="PutData", node=r"\EAST::LOG")
        assert suspects(evaluate_access(window_view(log))) == [("node_rate", "node", r"EAST/\EAST::LOG")]

    def test_of_connections_by_a_user_wherever_from(self):
        log = Log()
        for number in range(250):
            log.on("bob", number / 5, pid=500 + number, socket=0, address=f"10.0.{number % 50}.1")
        assert suspects(evaluate_access(hot_view(log))) == [("connect_rate", "user", "bob")]

    def test_of_connections_from_a_client_whatever_its_name(self):
        log = Log()
        for number in range(350):
            log.on(f"name{number}", number / 7, pid=500 + number, socket=0)
        [finding] = evaluate_access(hot_view(log)).findings
        assert (finding.scope, finding.subject) == ("client", "10.0.0.1")
        assert "and 345 more" in finding.detail

    def test_of_connections_by_everybody(self):
        log = Log()
        for number in range(3_100):
            log.on(
                f"u{number}", number / 60, pid=500 + number, socket=0, address=f"10.1.{number % 250}.{number // 250}"
            )
        assert suspects(evaluate_access(hot_view(log))) == [("connect_rate", "server", SERVER)]

    def test_of_sessions_open_at_once(self):
        log = Log()
        for number in range(210):
            log.on("bob", number, socket=4 + number, address=f"10.0.{number}.1")
        [finding] = evaluate_access(window_view(log)).findings
        assert (finding.rule, finding.subject, finding.value) == ("concurrency", "bob", 210)

    def test_sessions_one_after_another_are_not_open_at_once(self):
        log = Log()
        for number in range(230):
            log.on("bob", number, socket=4)
            log.off("bob", number, socket=4)
        assert not evaluate_access(window_view(log)).findings

    def test_sessions_that_were_refused_are_not_open(self):
        log = Log()
        for number in range(210):
            log.on("bob", 5, socket=4 + number, address=f"10.0.{number}.1")
        view = window_view(log)
        refused = view.session.with_columns(ended_by=pl.lit("refusal"), end_time=pl.col("start_time"))
        assert not evaluate_access(replace(view, session=refused)).findings

    def test_and_two_rules_about_one_user_are_one_finding(self):
        log = Log()
        for number in range(500):
            log.on("bob", number / 10, pid=500 + number, socket=0)
            log.op(number / 10, pid=500 + number)
        [finding] = evaluate_access(hot_view(log)).findings
        assert finding.rule == "heavy_reads"
        assert [row["also"] for row in finding.evidence if "also" in row] == ["connect_rate"]

    def test_two_causes_are_two_findings(self):
        log = inetd(1_000)
        for number in range(300):
            log.on("carol", number / 6, pid=2_000 + number, socket=0, address="10.0.0.2")
        found = suspects(evaluate_access(hot_view(in_order(log))))
        assert sorted(found) == [("connect_rate", "user", "carol"), ("heavy_reads", "user", "bob")]


class TestRefusedClients:
    def test_are_named_with_where_they_came_from(self):
        log = Log()
        log.on("banned", 1, socket=4, address="10.9.9.9")
        lines = errors(*[("denied", "banned")] * 40)
        session = pair_sessions(log.frames()[0], None, WINDOW, errors=errors(("denied", "banned"))).table
        view = replace(window_view(log), server_error=lines, session=session)
        [finding] = evaluate_access(view).findings
        assert (finding.rule, finding.scope, finding.subject, finding.value) == ("refused_clients", "user", "banned", 8)
        assert finding.evidence == ({"address": "10.9.9.9"},)

    def test_with_many_names_are_a_search(self):
        lines = errors(*[("denied", f"guess{number}") for number in range(400)])
        [finding] = evaluate_access(window_view(Log(), server_error=lines)).findings
        assert (finding.scope, finding.subject) == ("server", SERVER) and "400 names" in finding.detail

    def test_now_and_then_are_no_alarm(self):
        lines = errors(*[("denied", "anna")] * 5, *[("connected", "bob")] * 500)
        assert not evaluate_access(window_view(Log(), server_error=lines)).findings

    def test_are_not_judged_without_an_errors_log(self):
        assert "refused_clients" not in evaluate_access(window_view(Log())).judged


class TestLinesThatAreNone:
    def test_in_a_burst_are_told_by_reason(self):
        rejected = pl.DataFrame({"reason": ["glued", "partial"], "count": [1_500, 700]})
        [finding] = evaluate_access(window_view(Log(), rejected=rejected)).findings
        assert (finding.rule, finding.scope, finding.subject) == ("rejected_lines", "log", SERVER)
        assert finding.evidence == ({"reason": "glued", "lines": 1_500}, {"reason": "partial", "lines": 700})

    def test_that_are_few_among_many_are_no_alarm(self):
        rejected = pl.DataFrame({"reason": ["glued"] * 1_600})
        log = busy_server(Log(), seconds=300)
        client, operation = log.frames()
        view = AccessView(SERVER, WINDOW.end, 300, "window", client, pl.concat([operation] * 12), rejected)
        assert not evaluate_access(view).findings

    @pytest.mark.parametrize("away_s", [-6 * 3_600, 40 * 86_400])
    def test_that_were_forged_are_known_by_their_dates_and_named(self, away_s):
        log = busy_server(Log(), seconds=250)
        for number in range(60):
            log.lines.insert(100 + 30 * number, {})
        for number, line in enumerate(log.lines):
            if not line:
                log.on("admin", away_s, pid=1, socket=9, address="10.0.0.250")
                log.lines[number] = log.lines.pop()
            log.lines[number]["offset"] = 100 * number
        [finding] = evaluate_access(window_view(log)).findings
        assert (finding.rule, finding.unit, finding.affected) == ("rejected_lines", "forged lines/min", 60)
        assert finding.evidence[0]["user"] == "admin"

    def test_that_were_forged_for_tomorrow_do_not_hide_a_flood(self):
        log = inetd(1_000)
        log.on("admin", 86_400, pid=1, socket=9)
        found = suspects(evaluate_access(hot_view(log)))
        assert found == [("heavy_reads", "user", "bob")]

    def test_are_not_found_where_the_clock_was_set(self):
        log = busy_server(Log(), seconds=100)
        busy_server(log, seconds=100)
        for line in log.lines[len(log.lines) // 2 :]:
            line["link_time"] -= timedelta(hours=1)
        assert not evaluate_access(window_view(log)).findings


def status(outcome, *, lost=0, new=0):
    row = {"window": WINDOW.start, "server": SERVER, "kind": "access", "outcome": outcome, "detail": "x"}
    return pl.DataFrame([row | {"new_bytes": new, "backlog_bytes": 0, "lost_bytes": lost}], schema=LOG_STATUS)


class TestTheLogItself:
    @pytest.mark.parametrize("outcome", ["missing", "unreadable"])
    def test_is_gone(self, outcome):
        [finding] = evaluate_access(window_view(Log(), log_status=status(outcome))).findings
        assert (finding.rule, finding.scope, finding.subject, finding.severity) == (
            "log_silent",
            "log",
            SERVER,
            "critical",
        )

    @pytest.mark.parametrize("outcome", ["unreachable", "auth_failed", "host_key_changed", "timeout", "failed"])
    def test_cannot_be_read_where_the_server_lets_nobody_in(self, outcome):
        evaluation = evaluate_access(window_view(Log(), log_status=status(outcome)))
        [finding] = evaluation.findings
        assert (finding.rule, finding.scope, finding.subject, finding.severity) == (
            "no_data",
            "log",
            SERVER,
            "critical",
        )
        assert finding.detail.endswith(f"collection says {outcome}: x")
        assert evaluation.unjudged["server", SERVER] == f"the log was not read: {outcome}: x"

    @pytest.mark.parametrize("outcome", ["first", "quiet", "grown", "rotated", "missing", "unreadable", "late"])
    def test_is_no_matter_of_contact_where_the_server_was_reached(self, outcome):
        evaluation = evaluate_access(window_view(Log(), log_status=status(outcome)))
        assert "no_data" not in [finding.rule for finding in evaluation.findings]
        assert "no_data" in evaluation.judged and ("server", SERVER) not in evaluation.unjudged

    def test_is_out_of_reach_for_a_moment_now_and_then(self):
        gone = {"up": False, "log_status": status("unreachable"), "normal": known(inetd(3))}
        evaluation = evaluate_access(hot_view(Log(), **gone, silent_s=110.0))
        assert not evaluation.findings and "no_data" not in evaluation.judged
        [finding] = evaluate_access(hot_view(Log(), **gone, silent_s=130.0)).findings
        assert (finding.rule, finding.value, finding.threshold) == ("no_data", 130, 120)

    @pytest.mark.parametrize("normal", [None, known(Log())], ids=["no window yet", "windows without a line"])
    def test_is_not_missed_by_the_hot_lane_before_it_was_ever_read(self, normal):
        gone = {"up": False, "log_status": status("auth_failed"), "silent_s": 900.0}
        assert not evaluate_access(hot_view(Log(), **gone, normal=normal)).findings

    def test_says_nothing_before_the_first_contact_and_ends_nothing(self):
        evaluation = evaluate_access(hot_view(Log(), up=False, silent_s=500.0))
        assert not evaluation.findings and not {"no_data", "log_silent"} & evaluation.judged
        assert evaluation.unjudged["server", SERVER] == "the log was not read: there is no contact yet"

    def test_need_not_be_readable_where_the_rule_is_off(self):
        rules = load_rules("scopes: [{where: {server: east}, rules: {no_data: off}}]", "r")
        evaluation = evaluate_access(window_view(Log(), log_status=status("unreachable")), rules)
        assert not evaluation.findings and "no_data" not in evaluation.judged
        assert ("server", SERVER) in evaluation.unjudged

    def test_lost_bytes_before_they_were_read(self):
        [finding] = evaluate_access(window_view(inetd(3), log_status=status("grown", lost=512))).findings
        assert (finding.rule, finding.value, finding.unit) == ("log_silent", 512, "bytes")

    def test_is_silent_and_nobody_knows_whether_that_is_usual(self):
        evaluation = evaluate_access(window_view(Log(), log_status=status("quiet")))
        assert not evaluation.findings and "log_silent" not in evaluation.judged
        assert evaluation.unjudged["log", "* (log_silent)"].startswith("no history yet")


class TestTheRuleBook:
    def test_turns_a_rule_off(self):
        evaluation = evaluate_access(hot_view(inetd(1_000)), load_rules("rules: {heavy_reads: off}", "r"))
        assert "heavy_reads" not in evaluation.judged and not evaluation.findings

    def test_turns_a_rule_off_for_a_user(self):
        rules = load_rules("scopes: [{where: {user: 'b*'}, rules: {heavy_reads: off}}]", "r")
        assert not evaluate_access(hot_view(inetd(1_000)), rules).findings
        assert evaluate_access(hot_view(inetd(1_000, user="carol")), rules).findings

    @pytest.mark.parametrize("last", ["", ", {where: {server: east}, rules: {heavy_reads: off}}"])
    def test_turns_a_rule_on_for_a_user_alone_unless_a_later_scope_turns_it_off(self, last):
        on = "{where: {user: bob}, rules: {heavy_reads: on}}"
        rules = load_rules(f"{{rules: {{heavy_reads: off}}, scopes: [{on}{last}]}}", "r")
        assert not evaluate_access(hot_view(inetd(1_000, user="carol")), rules).findings
        assert bool(evaluate_access(hot_view(inetd(1_000)), rules).findings) is (not last)

    def test_turns_refusals_on_for_a_user_alone(self):
        rules = load_rules(
            "{rules: {refused_clients: off}, scopes: [{where: {user: anna}, rules: {refused_clients: on}}]}", "r"
        )
        lines = errors(*[("denied", f"guess{number}") for number in range(400)])
        assert not evaluate_access(window_view(Log(), server_error=lines), rules).findings
        lines = errors(*[("denied", "anna")] * 40)
        assert evaluate_access(window_view(Log(), server_error=lines), rules).findings

    def test_gives_a_user_other_limits(self):
        rules = load_rules("scopes: [{where: {user: guest}, rules: {heavy_reads: {process_per_min: 50}}}]", "r")
        assert not evaluate_access(hot_view(inetd(60, per_s=2)), rules).findings
        [finding] = evaluate_access(hot_view(inetd(60, per_s=2, user="guest")), rules).findings
        assert finding.threshold == 50

    def test_gives_a_node_other_limits(self):
        limits = "process_per_min: 2000, process_burst: 2000, user_per_min: 2000"
        ip, ne = (
            load_rules(f"scopes: [{{where: {{node: '*::{name}'}}, rules: {{heavy_reads: {{{limits}}}}}}}]", "r")
            for name in ("IP", "NE")
        )
        assert not evaluate_access(hot_view(inetd(1_000)), ip).findings
        assert evaluate_access(hot_view(inetd(1_000)), ne).findings

    @pytest.mark.parametrize(
        "limits", ["server_share: 0.9, server_burst_share: 0.9", "server_per_min: 900, server_burst: 900"]
    )
    def test_lets_one_node_have_a_greater_share_where_one_process_serves_everybody(self, limits):
        log = busy_server(Log())
        for number in range(800):
            log.op(20 + number / 20)
        ip, ne = (
            load_rules(f"scopes: [{{where: {{node: '*::{name}'}}, rules: {{heavy_reads: {{{limits}}}}}}}]", "r")
            for name in ("IP", "NE")
        )
        assert not evaluate_access(hot_view(in_order(log)), ip).findings
        assert suspects(evaluate_access(hot_view(in_order(log)), ne)) == [("heavy_reads", "node", r"EAST/\EAST::IP")]

    def test_lets_one_name_be_refused_more_often(self):
        view = window_view(Log(), server_error=errors(*[("denied", "banned")] * 40))
        rules = load_rules("scopes: [{where: {user: banned}, rules: {refused_clients: {least: 50}}}]", "r")
        assert evaluate_access(view).findings
        assert not evaluate_access(view, rules).findings

    def test_keeps_quiet_about_a_server_in_maintenance(self):
        rules = load_rules("maintenance: [{where: {server: east}, until: 2026-11-23T00:00:00Z, note: new disks}]", "r")
        evaluation = evaluate_access(hot_view(inetd(1_000)), rules)
        assert not evaluation.findings and not evaluation.judged
        assert "new disks" in evaluation.unjudged["server", SERVER]

    def test_keeps_quiet_about_a_server_whose_rack_is_in_maintenance(self):
        rules = load_rules("maintenance: [{where: {tor: dc1/p1/t1}, until: 2026-11-23T00:00:00Z}]", "r")
        view = hot_view(inetd(1_000))
        assert evaluate_access(replace(view, place={"host": "h1", "tor": "dc1/p1/t2"}), rules).findings
        evaluation = evaluate_access(replace(view, place={"host": "h4", "tor": "dc1/p1/t1"}), rules)
        assert not evaluation.findings and not evaluation.judged

    def test_keeps_quiet_about_a_user_in_maintenance(self):
        rules = load_rules("maintenance: [{where: {user: bob}, until: 2026-11-23T00:00:00Z}]", "r")
        assert not evaluate_access(hot_view(inetd(1_000)), rules).findings


class TestNamesFromStrangers:
    @pytest.mark.parametrize("name", HOSTILE)
    def test_cannot_act_in_a_finding(self, name):
        evaluation = evaluate_access(hot_view(inetd(1_000, user=name)))
        [finding] = evaluation.findings
        told = [value for row in finding.evidence for value in row.values() if isinstance(value, str)]
        for text in (finding.subject, finding.detail, *told):
            assert text.isprintable() and len(text) < 500
        assert [again.subject for again in findings_of(anomaly_rows(evaluation))] == [finding.subject]


def test_nothing_at_all_is_no_finding():
    log = Log()
    for view in (hot_view(log), window_view(log)):
        assert not evaluate_access(view, DEFAULT_RULES).findings


def test_the_hot_lane_measures_time_by_the_clock_of_the_log():
    view = replace(hot_view(inetd(1_000)), at=WINDOW.start + timedelta(hours=8))
    assert suspects(evaluate_access(view)) == [("heavy_reads", "user", "bob")]
