"""`pingmesh check-inventory` and `pingmesh plan`."""

import json

import pytest
from click.testing import CliRunner

from pingmesh_tasks.cli.main import main

CSV = "name,address,dc,podset,tor\na1,192.0.2.1,d,p,t1\na2,192.0.2.2,d,p,t1\nb1,192.0.2.3,d,p,t2\n"


@pytest.fixture
def inventory(tmp_path):
    file = tmp_path / "hosts.csv"
    file.write_text(CSV)
    return str(file)


def run(*words, **environment):
    clean = {"PINGMESH_INVENTORY": None, "PINGMESH_BUDGET_PROBES_PER_S": None} | environment
    return CliRunner().invoke(main, words, env=clean)


def test_a_good_inventory_is_described(inventory):
    done = run("check-inventory", inventory)
    assert done.exit_code == 0
    expected = f"{inventory}: 3 hosts in 1 DC, 1 podset, 2 ToRs; 0 data servers. No fault.\n"
    assert done.stdout == expected


def test_a_program_gets_the_same_figures(inventory):
    done = run("check-inventory", "--json", inventory)
    document = json.loads(done.stdout)
    assert (document["hosts"], document["tors"], document["data_servers"]) == (3, 2, [])
    assert document["faults"] == []


def test_without_an_argument_the_inventory_of_the_settings_is_checked(inventory):
    assert run("check-inventory", PINGMESH_INVENTORY=inventory).stdout.startswith(inventory)
    missing = run("check-inventory")
    assert missing.exit_code == 1
    assert missing.stderr.startswith("error: PINGMESH_INVENTORY is missing")


def test_each_fault_of_a_bad_inventory_is_a_line_and_no_traceback(tmp_path):
    bad = tmp_path / "bad.csv"
    bad.write_text("name,address\na,nowhere\na,192.0.2.1\n")
    done = run("check-inventory", str(bad))
    assert done.exit_code == 1
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 2
    assert all(line.startswith(f"error: {bad}: line ") for line in lines)
    as_json = json.loads(run("check-inventory", "--json", str(bad)).stdout)
    assert [f"error: {fault}" for fault in as_json["faults"]] == lines


def test_the_plan_shows_its_cost_against_the_budget(inventory):
    done = run("plan", inventory, PINGMESH_BUDGET_PROBES_PER_S="10")
    assert done.exit_code == 0
    assert "3 hosts, 5 pairs every 10 s by tcp" in done.stdout
    assert "0.5 (5 % of the budget of 10)" in done.stdout
    assert "a1: 2 of at most 2,500 peers" in done.stdout
    assert "ping list of" not in done.stdout


def test_the_plan_is_the_same_for_a_program_with_the_targets_of_a_host(inventory):
    document = json.loads(run("plan", "--json", "--host", "a1", inventory).stdout)
    assert (document["pairs"], document["probes_per_s"]) == (5, 0.5)
    assert sum(document["pairs_by_scope"].values()) == document["pairs"]
    assert {target["name"] for target in document["targets"]} == {"a2", "b1"}
    assert document["budget_share"] == pytest.approx(0.5 / document["budget_probes_per_s"])


def test_a_plan_over_the_budget_is_a_fault_with_the_figure(tmp_path):
    crowd = tmp_path / "crowd.csv"
    rows = [f"h{n},192.0.2.{n},d,p,t" for n in range(1, 31)]
    crowd.write_text("\n".join(["name,address,dc,podset,tor", *rows]))
    done = run("plan", str(crowd), PINGMESH_BUDGET_PROBES_PER_S="5")
    assert done.exit_code == 1
    assert done.stderr.startswith("error: 30 hosts would send 87 probes/s (870 pairs every 10 s)")
    assert len(done.stderr.splitlines()) == 1


def test_a_host_that_is_not_in_the_inventory_is_a_fault(inventory):
    done = run("plan", "--host", "a9", inventory)
    assert done.exit_code == 1
    assert "there is no host 'a9'" in done.stderr


def test_every_command_knows_json_and_has_a_help_text():
    def commands(group, path=()):
        for name, command in group.commands.items():
            if hasattr(command, "commands"):
                yield from commands(command, (*path, name))
            else:
                yield (*path, name), command

    every = dict(commands(main))
    assert len(every) == 12
    for path, command in every.items():
        assert command.help, path
        assert "--json" in {option for param in command.params for option in param.opts}, path
        assert CliRunner().invoke(main, [*path, "--help"]).exit_code == 0, path


def test_a_wrong_usage_ends_with_exit_code_two():
    assert run("plan", "--no-such-option").exit_code == 2
