"""Records of 2018 in the bucket."""

import json
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from pingmesh_tasks.cli.main import main
from pingmesh_tasks.orchestration import installation
from pingmesh_tasks.store.tables import read_table
from pingmesh_tasks.windows import Window

pytestmark = pytest.mark.integration
START_S = int(datetime(2018, 4, 23, 17, tzinfo=UTC).timestamp())


@pytest.fixture
def records(tmp_path):
    """Three probes of one pair: two in the window of 17:00, one in the next."""
    entries = [
        [START_S + at, "192.168.1.1", 8910, "192.168.1.41", 8911, "tcp", "tor", 0, 0.0008, 0] for at in (1, 299, 300)
    ]
    file = tmp_path / "server-1.ndjson"
    file.write_text(json.dumps({"entries": entries}) + "\n")
    return str(file)


def test_an_import_writes_both_tables_of_each_window_and_can_be_repeated(store, records, monkeypatch):
    monkeypatch.setattr(installation, "open_local_store", lambda settings: store)
    first = Window(datetime(2018, 4, 23, 17, tzinfo=UTC), 300)
    for _ in range(2):
        done = CliRunner().invoke(main, ["import-2018", records, "--json"], env={"PINGMESH_INVENTORY": "x.csv"})
        assert done.exit_code == 0, done.output
        assert "2 windows from 20180423T170000Z to 20180423T170500Z" in json.loads(done.stdout)["written"]
        keys = store.keys("tables/")
        assert len(keys) == 4
        assert read_table(store, "probe", first).height == 2
        pairs = read_table(store, "pair_latency", first)
        assert pairs.select("src", "dst", "sent", "answered").rows() == [("192.168.1.41", "192.168.1.1", 2, 2)]
        assert read_table(store, "probe", first.shifted(1)).height == 1
