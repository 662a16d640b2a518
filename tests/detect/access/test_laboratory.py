"""The rules on whole logs: those of real servers, and made-up ones whose truth is known.

`benchmarks/detect_access.py` does the same with many more seeds.
"""

from datetime import timedelta

import pytest

from pingmesh_tasks.access.errors_log import parse_errors_log
from pingmesh_tasks.demo.data_server import Hammer
from pingmesh_tasks.detect.access.evaluate import evaluate_access
from pingmesh_tasks.detect.access.view import node_name
from tests.support.access_views import SERVER, START, dates, hot_view, made_up, made_up_logs, read, window_views
from tests.support.samples import log_names, log_sample

REAL = [name for name in log_names() if name.startswith("access-")]
MODES = ["multi", "inetd"]
FROM_S, PER_S = 120, 20.0


def suspects(evaluation):
    return [(finding.rule, finding.scope, finding.subject) for finding in evaluation.findings]


def hammered_node(seed=1):
    people = made_up_logs(200, seed=seed, hammer=Hammer("bob", FROM_S, PER_S)).people
    node = people.wanted[0][0]
    return node_name(people.tree_names[people.node_tree[node]], people.nodes[node])


@pytest.mark.parametrize("name", REAL)
def test_nothing_is_wrong_in_the_log_of_a_real_server_even_under_a_load_test(name):
    tables = read(log_sample(name), "UTC")
    moments = dates(tables).unique().sort().gather_every(20).to_list()
    for moment in moments:
        for seconds in (1, 4, 30):
            assert not evaluate_access(hot_view(tables, moment + timedelta(seconds=seconds))).findings
    if moments:
        for _, view in window_views(tables):
            assert not evaluate_access(view).findings


@pytest.mark.parametrize("mode", MODES)
def test_nothing_is_wrong_on_a_busy_day(mode):
    tables = made_up(300, mode=mode, seed=5)
    for second in range(3, 300, 9):
        assert not evaluate_access(hot_view(tables, START + timedelta(seconds=second))).findings
    for _, view in window_views(tables, 60):
        assert not evaluate_access(view).findings


@pytest.mark.parametrize("mode", MODES)
def test_a_user_who_hammers_a_node_is_found_in_seconds_and_until_the_end_as_one_cause(mode):
    tables = made_up(200, mode=mode, hammer=Hammer("bob", FROM_S, PER_S))
    node = hammered_node()
    cause = ("heavy_reads", "user", "bob") if mode == "inetd" else ("heavy_reads", "node", node)
    for second in range(FROM_S - 30, 190, 3):
        [*found] = evaluate_access(hot_view(tables, START + timedelta(seconds=second))).findings
        if second <= FROM_S:
            assert not found
        elif second >= FROM_S + 6:
            assert [(finding.rule, finding.scope, finding.subject) for finding in found] == [cause]
            assert node in found[0].detail


@pytest.mark.parametrize("mode", MODES)
def test_a_user_who_hammers_a_node_is_found_in_windows_too(mode):
    found = [
        suspects(evaluate_access(view))
        for _, view in window_views(made_up(200, mode=mode, hammer=Hammer("bob", FROM_S, PER_S)), 60)
    ]
    cause = ("heavy_reads", "user", "bob") if mode == "inetd" else ("heavy_reads", "node", hammered_node())
    assert found[:3] == [[], [], [cause]]


def test_where_nobody_can_be_blamed_the_one_who_did_it_is_among_those_who_were_there():
    tables = made_up(200, hammer=Hammer("bob", FROM_S, PER_S))
    for second in (FROM_S + 6, FROM_S + 20):
        [finding] = evaluate_access(hot_view(tables, START + timedelta(seconds=second))).findings
        present = [row["connected"] for row in finding.evidence if "connected" in row]
        assert "bob" in present and finding.subject != "bob"


def test_lines_that_are_none_are_counted_as_they_are():
    logs = made_up_logs(60, garbage=0.2)
    tables = read(logs.access)
    [finding] = evaluate_access(hot_view(tables, START + timedelta(seconds=300), 300)).findings
    assert (finding.rule, finding.affected) == ("rejected_lines", logs.truth.rejected.total())


def test_forged_lines_in_numbers_are_seen_and_a_few_are_not_spoken_of():
    many, few = made_up(60, forged=0.2), made_up(60, forged=0.003)
    at = START + timedelta(seconds=60)
    [finding] = evaluate_access(hot_view(many, at)).findings
    assert (finding.rule, finding.unit) == ("rejected_lines", "forged lines/min")
    assert {row["user"] for row in finding.evidence} == {"admin"}
    assert not evaluate_access(hot_view(few, at)).findings


@pytest.mark.parametrize(("refused", "expected"), [(0.01, []), (0.6, [("refused_clients", "server", SERVER)])])
def test_refusals_are_found_where_they_are_many(refused, expected):
    logs = made_up_logs(60, refused=refused)
    [(window, view), *_] = window_views(read(logs.access), 60)
    errors = parse_errors_log(
        logs.errors, server=SERVER, window=window, collected_from=window.start, collected_until=window.end
    )
    with_errors = type(view)(**{name: getattr(view, name) for name in view.__slots__} | {"server_error": errors.table})
    found = suspects(evaluate_access(with_errors))
    assert [cause for cause in found if cause[1] == "server"] == expected
