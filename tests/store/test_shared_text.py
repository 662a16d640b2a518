"""A text that several workers change: no change is lost, whether it lies in a file or in a
bucket."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from pingmesh_tasks.errors import ConfigError, StoreError
from pingmesh_tasks.store import shared_text
from pingmesh_tasks.store.objects import ObjectStore
from pingmesh_tasks.store.shared_text import FixedText, SharedText, TextFile, TextObject

pytestmark = pytest.mark.integration

Open = Callable[[], SharedText]


@pytest.fixture(params=["file", "bucket"])
def open_text(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens the same text anew, as each worker does."""
    if request.param == "file":
        return lambda: TextFile(tmp_path / "folder" / "text")
    store: ObjectStore = request.getfixturevalue("store")
    return lambda: TextObject(ObjectStore(store.access), "control/text")


def test_an_absent_text_is_empty(open_text: Open):
    assert open_text().read() == ""


def test_a_change_is_seen_by_others_and_changes_the_version(open_text: Open):
    before = open_text().version()
    assert open_text().update(lambda text: text + "one\n") == "one\n"
    assert open_text().read() == "one\n"
    assert open_text().version() != before


def test_a_change_that_changes_nothing_writes_nothing(open_text: Open):
    open_text().update(lambda _: "one\n")
    before = open_text().version()
    open_text().update(lambda text: text)
    assert open_text().version() == before


def test_workers_that_change_it_at_the_same_time_lose_no_change(open_text: Open):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: open_text().update(lambda text: f"{text}{n}\n"), range(12)))
    assert sorted(open_text().read().split(), key=int) == [str(n) for n in range(12)]


def test_bytes_that_are_no_utf8_pass_through(open_text: Open, tmp_path: Path):
    open_text().update(lambda _: b"r\xe9seau\n".decode("utf-8", "surrogateescape"))
    open_text().update(lambda text: text + "more\n")
    assert open_text().read().encode("utf-8", "surrogateescape") == b"r\xe9seau\nmore\n"


def test_a_change_that_raises_changes_nothing(open_text: Open):
    def refuse(text: str) -> str:
        raise ConfigError("no")

    with pytest.raises(ConfigError, match="no"):
        open_text().update(refuse)
    assert open_text().read() == ""


def test_a_file_of_one_machine_is_copied_to_the_bucket_once(store: ObjectStore, tmp_path: Path):
    seed = tmp_path / "known_hosts"
    seed.write_text("10.0.0.7 of the first worker\n")
    other_seed = tmp_path / "other"
    other_seed.write_text("10.0.0.7 of the second worker\n")
    first, second = (TextObject(store, "control/text", path) for path in (seed, other_seed))
    assert first.read() == "10.0.0.7 of the first worker\n"
    assert second.update(lambda text: text + "10.0.0.8 pinned\n").startswith("10.0.0.7 of the first worker\n")
    assert seed.read_text() == "10.0.0.7 of the first worker\n"
    first.update(lambda _: "")
    assert first.read() == "", "an operator may empty the text; the file is not taken a second time"


def test_a_file_is_private(tmp_path: Path):
    TextFile(tmp_path / "folder" / "text").update(lambda _: "one\n")
    assert (tmp_path / "folder").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "folder" / "text").stat().st_mode & 0o777 == 0o600


def test_a_bucket_that_others_keep_changing_is_given_up_by_name(store: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shared_text, "_LONGEST_PAUSE_S", 0)
    text = TextObject(store, "control/text")

    def slow(before: str) -> str:
        store.put("control/text", f"{len(before)} by another".encode() + before.encode())
        return before + "ours"

    with pytest.raises(StoreError, match=r"control/text was changed by others 12 times"):
        text.update(slow)


def test_a_text_of_the_operator_is_changed_by_nobody_else():
    text = FixedText("10.0.0.7 key\n", "the extra host_key")
    assert text.update(lambda before: before) == "10.0.0.7 key\n"
    with pytest.raises(ConfigError, match="the extra host_key"):
        text.update(lambda before: before + "more")


def test_the_first_text_makes_the_bucket(store: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    made = []
    monkeypatch.setattr(ObjectStore, "ensure_bucket", lambda self: made.append(self.access.bucket))
    text = TextObject(store, "control/text")
    text.update(lambda _: "one\n")
    text.update(lambda before: before + "two\n")
    assert made == [store.access.bucket]
