"""An upgrade keeps what the object in the bucket holds: a state that version 1 wrote is read and written back."""

from __future__ import annotations

import json
from pathlib import Path

from pingmesh_tasks.alerting.state_file import from_json, to_json

#: Written before the attributes of the state were renamed: four open incidents, one of them hidden by a silence, one
#: acknowledged; merged incidents; a pending finding; notices that wait for a channel which fails.
RECORDED = Path(__file__).parent / "recorded" / "state-v1.json"


def test_a_recorded_state_is_read_and_written_back_key_for_key():
    recorded = RECORDED.read_bytes()
    assert json.loads(to_json(from_json(recorded))) == json.loads(recorded)
