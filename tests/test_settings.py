import re
from pathlib import Path

import pytest

from pingmesh_tasks.errors import ConfigError
from pingmesh_tasks.settings import NO_INVENTORY, Settings, load_settings, valid_settings

MINIMAL = {"PINGMESH_INVENTORY": "pinglist.txt"}


def test_one_variable_is_enough():
    settings = load_settings(MINIMAL)
    assert settings.inventory == "pinglist.txt"
    assert settings.window_s == 300
    assert settings.s3_bucket == "pingmesh"


def test_every_fault_of_an_environment_is_reported_at_once():
    environ = {"PINGMESH_WINDOW_S": "90", "PINGMESH_PROTOCOL": "icmp6", "PINGMESH_SHARD_SIZE": "many"}
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    message = str(caught.value)
    for part in (
        "PINGMESH_INVENTORY is missing",
        "PINGMESH_WINDOW_S='90'",
        "PINGMESH_PROTOCOL='icmp6'",
        "PINGMESH_SHARD_SIZE",
    ):
        assert part in message


def test_a_misspelled_setting_is_refused_with_a_suggestion():
    with pytest.raises(ConfigError, match="PINGMESH_WINDOWS_S is not a setting; did you mean PINGMESH_WINDOW_S"):
        load_settings(MINIMAL | {"PINGMESH_WINDOWS_S": "300"})


def test_an_empty_variable_means_the_default():
    assert load_settings(MINIMAL | {"PINGMESH_S3_ENDPOINT": ""}).s3_endpoint is None


def test_a_window_that_cron_cannot_say_is_refused():
    with pytest.raises(ConfigError, match="cannot be scheduled by cron"):
        load_settings(MINIMAL | {"PINGMESH_WINDOW_S": "2400"})


def test_a_lease_shorter_than_a_window_is_refused_with_one_that_would_do():
    with pytest.raises(ConfigError, match="agents would stop between two runs; write 10800"):
        load_settings(MINIMAL | {"PINGMESH_WINDOW_S": "3600"})


def test_recipients_are_split_at_commas_and_each_must_be_an_address():
    name = "PINGMESH_ALERT_EMAIL_TO"
    assert load_settings(MINIMAL | {name: "a@x.org, b@y.org,"}).alert_email_to == ("a@x.org", "b@y.org")
    with pytest.raises(ConfigError, match="PINGMESH_ALERT_EMAIL_TO"):
        load_settings(MINIMAL | {name: "a@x.org,nobody"})


def test_settings_cannot_be_changed():
    with pytest.raises(Exception, match="frozen"):
        load_settings(MINIMAL).window_s = 60  # type: ignore[misc]


def test_the_example_environment_lists_every_setting_with_its_default():
    text = Path(__file__).parents[1].joinpath(".env.example").read_text()
    listed = dict(re.findall(r"^(?:# )?(PINGMESH_\w+)=(.*)$", text, re.MULTILINE))
    for name, field in Settings.model_fields.items():
        variable = f"PINGMESH_{name.upper()}"
        assert variable in listed, f"{variable} is not in .env.example"
        if not field.is_required() and field.default not in (None, "", ()) and name not in ("ssh_dir",):
            assert getattr(load_settings(MINIMAL | {variable: listed[variable]}), name) == field.default


def test_without_an_environment_given_it_is_the_process_own(monkeypatch):
    monkeypatch.setenv("PINGMESH_INVENTORY", "of-the-process.csv")
    assert load_settings().inventory == "of-the-process.csv"


def test_faults_leave_the_valid_settings_and_the_defaults_of_the_others():
    environ = {"PINGMESH_SHARD_SIZE": "7", "PINGMESH_WINDOW_S": "90", "PINGMESH_WINDOW": "60"}
    settings, fault = valid_settings(environ)
    assert (settings.shard_size, settings.window_s, settings.inventory) == (7, 300, NO_INVENTORY)
    for part in ("PINGMESH_INVENTORY is missing", "PINGMESH_WINDOW_S='90'", "PINGMESH_WINDOW is not a setting"):
        assert part in str(fault)
    with pytest.raises(ConfigError) as caught:
        load_settings(environ)
    assert str(caught.value) == str(fault)


def test_a_fault_of_two_settings_together_leaves_the_defaults_of_both():
    settings, fault = valid_settings(MINIMAL | {"PINGMESH_WINDOW_S": "3600", "PINGMESH_SHARD_SIZE": "7"})
    assert (settings.window_s, settings.lease_s, settings.shard_size) == (300, 900, 7)
    assert "PINGMESH_LEASE_S=900 is not above PINGMESH_WINDOW_S=3600" in str(fault)


def test_sound_settings_have_no_fault():
    settings, fault = valid_settings(MINIMAL)
    assert (settings, fault) == (load_settings(MINIMAL), None)
