"""What the page says is said in every language."""

from __future__ import annotations

import json

import pytest

from pingmesh_tasks.alerting.messages.wording import LATE_DATA
from pingmesh_tasks.detect.catalogue import RULES
from tests.support.made_up_mesh import STATIC

WORDS = {path.stem: json.loads(path.read_text()) for path in (STATIC / "i18n").glob("*.json")}


@pytest.mark.parametrize("language", WORDS)
def test_every_language_says_everything(language: str):
    assert WORDS[language].keys() == WORDS["en"].keys()


@pytest.mark.parametrize("language", WORDS)
def test_every_rule_that_an_incident_may_be_of_has_a_name(language: str):
    named = {key.removeprefix("rule.") for key in WORDS[language] if key.startswith("rule.")}
    assert named == {*RULES, LATE_DATA}
