"""What the page's API says to a question that is wrong, of what is not there, and when the store does not answer."""

import threading
import time
from dataclasses import replace

import httpx
import pytest

from pingmesh_tasks.queries import page as page_module
from pingmesh_tasks.store.objects import ObjectStore
from tests.support.page_api_mesh import NAMES, NEWEST
from tests.support.page_api_server import TOKEN, page_app, serving


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("matrix", "window"),
        ("matrix?window=yesterday", "window"),
        (f"matrix?window={NEWEST}&metric=p98", "metric"),
        (f"matrix?window={NEWEST}&lod=7", "lod"),
        (f"matrix?window={NEWEST}&lod=-1", "lod"),
        (f"matrix?window={NEWEST}&pool=min", "pool"),
        (f"matrix?window={NEWEST}&limit=3", "limit"),
        (f"matrix?window={NEWEST}&v=../../etc", "v"),
        ("windows?limit=0", "limit"),
        ("windows?from=20250101T000000Z", "31 days"),
        ("windows?from=20261122T000000Z&to=20261121T000000Z", "after"),
        ("series?of=everything", "of"),
        ("series?of=host", "src"),
        (f"series?of=mesh&src={NAMES[0]}", "neither"),
        ("series?of=pair&src=a", "dst"),
        ("series?points=289", "points"),
        ("series?from=20261101T000000Z", "7 days"),
        (f"worst?window={NEWEST}&count=201", "count"),
        ("sessions?limit=5001", "limit"),
        ("anomalies?severity=bad", "severity"),
        ("fleet?format=xml", "format"),
    ],
)
def test_a_bad_question_is_refused_with_its_fault(client, path, told):
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert error["code"] == "bad_parameter"
    assert told in error["message"]


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("windows?from=20261399T000000Z", "from"),
        ("series?to=20260230T000000Z", "to"),
        ("anomalies?to=00010101T000000Z", "to"),
        ("windows?to=99991231T235959Z", "to"),
        ("matrix?window=20269921T220501Z", "window"),
        ("matrix?window=99991231T235500Z", "window"),
        ("fleet?window=00010101T000000Z", "window"),
    ],
)
def test_a_moment_that_no_calendar_has_is_a_bad_question(client, path, name):
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 400
    moment = path.partition("=")[2]
    assert answer.json()["error"]["message"] == f"{name}: {moment} is no moment of 2000 to 2199"


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("matrix?window=20261121T220000Z&level=hour", "no_window"),
        ("matrix?window=20201121T220500Z", "no_window"),
        ("matrix?window=20261121T220501Z", "no_window"),
        ("axis/0123456789abcdef", "no_plan"),
        (f"pair?window={NEWEST}&src=nobody&dst={NAMES[0]}", "no_place"),
        (f"pair?window={NEWEST}&src={NAMES[0]}&dst={NAMES[0]}", "no_pair"),
        (f"worst?window={NEWEST}&src=dc9", "no_place"),
        (f"cdf?window={NEWEST}&of=host&src=nobody", "no_place"),
        ("fleet?window=20201121T220500Z", "no_window"),
    ],
)
def test_what_is_not_there_is_said_in_words(client, path, code):
    answer = client.get(f"/api/v1/{path}")
    assert answer.status_code == 404
    assert answer.json()["error"]["code"] == code
    assert len(answer.json()["error"]["message"]) > 20


def test_the_description_says_what_is_answered_and_what_when_it_is_not(client):
    description = client.get("/api/v1/openapi.json").json()
    paths = {path.removeprefix("/api/v1/"): one["get"]["responses"] for path, one in description["paths"].items()}
    assert set(paths.pop("matrix")["200"]["content"]) == {"application/vnd.pingmesh.matrix"}
    for path, answers in paths.items():
        wanted = {"application/json"} if path in ("boot", "axis/{plan}") else {"application/json", "text/csv"}
        assert set(answers["200"]["content"]) == wanted, path
        assert set(answers) == {"200", "400", "401", "403", "404", "503", "default"}, path
    fault = description["components"]["schemas"]["Failure"]["properties"]
    told = client.get("/api/v1/matrix").json()
    assert set(fault) == set(told) == {"error"}
    assert set(description["components"]["schemas"]["Fault"]["properties"]) == set(told["error"])


def test_a_store_that_does_not_answer_is_said_without_its_credentials(s3_server):
    gone = ObjectStore(replace(s3_server.access, endpoint="http://127.0.0.1:9"))
    with serving(page_app(gone)) as url:
        answer = httpx.get(f"{url}/api/v1/boot", headers={"authorization": f"Bearer {TOKEN}"}, timeout=120)
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "no_store"
    assert "retry-after" in answer.headers
    assert s3_server.secret_access_key not in answer.text


def test_requests_beyond_those_that_may_wait_are_sent_away(filled, monkeypatch):
    app = page_app(filled)
    monkeypatch.setattr("pingmesh_ui.app.MOST_WAITING", 3)
    release = threading.Event()
    boot = page_module.Page.boot
    monkeypatch.setattr(page_module.Page, "boot", lambda page: release.wait(90) and boot(page))
    with serving(app) as busy, httpx.Client(base_url=busy, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        asked = [threading.Thread(target=client.get, args=("/api/v1/boot",), kwargs={"timeout": 120}) for _ in range(3)]
        for thread in asked:
            thread.start()
        deadline = time.monotonic() + 60
        while app.state.desk.waiting < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        answer = client.get("/api/v1/windows", timeout=60)
        release.set()
        for thread in asked:
            thread.join()
        assert answer.status_code == 503
        assert answer.json()["error"]["code"] == "busy"
        assert client.get("/api/v1/windows", timeout=60).status_code == 200
