"""The page in a real Airflow api-server: its login, its rights, its prefix, its connections; and in a real Chromium."""

import base64
import json
import os
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path

import httpx
import pytest

from pingmesh_tasks.alerting.messages.links import links_of
from pingmesh_tasks.alerting.outbox import ALARM
from pingmesh_tasks.demo.daemon import Daemon
from pingmesh_tasks.store.objects import ObjectStore
from tests.support.browser import headless_chromium
from tests.support.fleet import free_port
from tests.support.notices import notice
from tests.support.page_data import fill

pytestmark = pytest.mark.integration
REPO = Path(__file__).parents[2]
PREFIX = "/over/here"
PASSWORDS = {"admin": "one", "looker": "two"}
RUN = "scheduled__2026-11-21T22:10:00+00:00"
START_S = 180


#: A database with a connection, two DAGs, and a run of one as the scheduler would leave it.
MAKE_DATABASE = """
import os
from datetime import datetime, timedelta, timezone
from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db
from airflow.models import Connection
from airflow.models.dagbundle import DagBundleModel
from airflow.models.dagrun import DagRun
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from airflow.utils.state import DagRunState
from airflow.utils.types import DagRunType
initdb()
dags = os.environ["TEST_DAGS"]
with create_session() as session:
    session.merge(DagBundleModel(name="dags-folder"))
bag = DagBag(dags, collect_dags=False, bundle_path=dags, bundle_name="dags-folder")
for name in ("pingmesh", "alert_admin"):
    bag.process_file(f"{dags}/{name}.py")
assert not bag.import_errors, bag.import_errors
sync_bag_to_db(bag, "dags-folder", None)
start = datetime(2026, 11, 21, 22, 5, tzinfo=timezone.utc)
end = start + timedelta(minutes=5)
key, secret = os.environ["TEST_KEY"], os.environ["TEST_SECRET"]
with create_session() as session:
    session.add(Connection(conn_id="pingmesh_s3", conn_type="aws", login=key, password=secret))
    session.add(DagRun(dag_id="pingmesh", run_id="scheduled__2026-11-21T22:10:00+00:00", state=DagRunState.SUCCESS,
                       run_type=DagRunType.SCHEDULED, logical_date=start, run_after=end, data_interval=(start, end)))
"""


@pytest.fixture(scope="module")
def environment(s3_server, tmp_path_factory):
    """What Airflow gets: a prefix, SQLite, and the store's key pair as a connection in its database only."""
    home = tmp_path_factory.mktemp("airflow")
    store = ObjectStore(s3_server.access).in_bucket("page-in-airflow")
    store.ensure_bucket()
    fill(store, 12, 2)
    (home / "passwords.json").write_text(json.dumps(PASSWORDS))
    port = free_port()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "PYTHONPATH": f"{REPO}:{REPO / 'plugins'}",
        "PYTHONWARNINGS": "ignore",
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__DAGS_FOLDER": str(home / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(REPO / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(bytes(32)).decode(),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": "admin:admin,looker:viewer",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE": str(home / "passwords.json"),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": f"http://localhost:{port}{PREFIX}",
        "AIRFLOW__API_AUTH__JWT_SECRET": "not-a-secret" * 8,
        "PINGMESH_INVENTORY": "/nowhere",
        "PINGMESH_S3_BUCKET": store.access.bucket,
        "PINGMESH_S3_ENDPOINT": str(store.access.endpoint),
    }
    given = {"TEST_KEY": store.access.access_key_id, "TEST_SECRET": store.access.secret_access_key}
    made = run_python(MAKE_DATABASE, environment | given | {"TEST_DAGS": str(REPO / "dags")})
    assert made.returncode == 0, made.stderr[-3_000:]
    return environment


@pytest.fixture(scope="module")
def airflow(environment):
    """The URL of an api-server."""
    daemon = Daemon(Path(environment["AIRFLOW_HOME"]), "api-server")
    daemon.start([str(Path(sys.executable).with_name("airflow")), "api-server"], environment)
    url = environment["AIRFLOW__API__BASE_URL"]
    deadline = time.monotonic() + START_S
    while True:
        assert daemon.pid, daemon.last_lines(40)
        assert time.monotonic() < deadline, daemon.last_lines(40)
        with suppress(httpx.HTTPError):
            if httpx.get(f"{url}/api/v2/version", timeout=5).is_success:
                break
        time.sleep(0.2)
    yield url
    daemon.stop()


def run_python(program, environment):
    return subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        cwd=REPO,
        capture_output=True,
        text=True,
        timeout=START_S,
        check=False,
    )


def token_of(url, user):
    answer = httpx.post(f"{url}/auth/token", json={"username": user, "password": PASSWORDS[user]})
    return answer.raise_for_status().json()["access_token"]


def logged_in(url, user):
    return httpx.Client(base_url=f"{url}/pingmesh", cookies={"_token": token_of(url, user)}, timeout=120)


@pytest.fixture(scope="module")
def chromium():
    with headless_chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def reader(chromium, airflow):
    """A browser window whose reader logged in with Airflow's own form; its violations of the page's policy are kept."""
    page = chromium.new_page(viewport={"width": 1400, "height": 900}, locale="en-GB", reduced_motion="reduce")
    page.faults = []
    page.on("console", lambda message: page.faults.append(message.text) if "Content Security" in message.text else None)
    page.goto(f"{airflow}/")
    log_in(page)
    page.get_by_role("link", name="Pingmesh").wait_for()
    yield page
    assert not page.faults


def log_in(page):
    page.fill("input[name=username]", "admin")
    page.fill("input[name=password]", PASSWORDS["admin"])
    page.click("button[type=submit]")


def frame_of(page):
    """The page, in the frame that Airflow puts around it."""
    return page.wait_for_selector("iframe").content_frame()


@pytest.fixture(scope="module")
def looker(airflow):
    with closing(logged_in(airflow, "looker")) as client:
        yield client


@pytest.mark.parametrize(
    "path",
    ["/", "/api/v1/boot", "/static/@/app.js", "/docs", "/openapi.json", "/api/v1/openapi.json", "/run/pingmesh/x"],
)
def test_without_airflows_login_nothing_is_answered(airflow, path):
    answer = httpx.get(f"{airflow}/pingmesh{path}")
    assert answer.status_code == 401
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    spoiled = httpx.get(f"{airflow}/pingmesh{path}", cookies={"_token": "nonsense"})
    assert spoiled.status_code in (401, 403)


def test_who_may_read_the_dag_sees_the_page(looker):
    assert "static/@/" not in looker.get("/").text
    boot = looker.get("/api/v1/boot").json()
    assert boot["user"] == "looker"
    assert (len(boot["windows"]), boot["newest"]["hosts"]) == (2, 12)
    answer = looker.get("/api/v1/matrix", params={"window": boot["newest"]["id"]})
    assert answer.content[:4] == b"PMM1"


def test_who_may_not_read_the_dag_is_kept_out(environment):
    """Airflow's simple login lets every user read every DAG, so another one is put in its place."""
    asked = run_python(FORBIDDEN, environment)
    assert asked.stdout.split()[-4:] == ["403", "403", "403", "200"], asked.stderr[-2_000:]


FORBIDDEN = """
from airflow.api_fastapi import app as airflow_app
from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager
from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
asked = []
class Closed(SimpleAuthManager):
    def is_authorized_dag(self, *, method, user, access_entity=None, details=None):
        asked.append((method, details.id))
        return user.username == "friend"
airflow_app._AuthManagerState.instance = manager = Closed()
manager.init()
from fastapi.testclient import TestClient
from pingmesh_ui.app import airflow_app as build
client = TestClient(build())
for path, name in (("/", "bob"), ("/api/v1/boot", "bob"), ("/static/@/app.js", "bob"), ("/static/@/app.js", "friend")):
    token = manager.generate_jwt(SimpleAuthManagerUser(username=name, role="VIEWER"))
    print(client.get(path, cookies={"_token": token}).status_code)
assert set(asked) == {("GET", "pingmesh")}, asked
"""


def test_the_page_chooses_its_encoding_itself(looker):
    boot = looker.get("/api/v1/boot").json()
    path = f"/api/v1/matrix?window={boot['newest']['id']}"
    for offered, chosen in (("gzip, zstd", "zstd"), ("gzip", "gzip"), ("identity", "identity")):
        with looker.stream("GET", path, headers={"accept-encoding": offered}) as answer:
            assert answer.headers["content-encoding"] == chosen


def test_a_run_leads_to_its_window_under_any_prefix(looker, airflow):
    answer = looker.get(f"/run/pingmesh/{RUN}")
    assert answer.status_code == 303, answer.text
    assert str(answer.next_request.url) == f"{airflow}/pingmesh/?window=20261121T220500Z"
    assert looker.get("/run/pingmesh/never").status_code == 404


def test_airflow_shows_the_page_in_its_navigation_and_on_runs(airflow):
    with closing(logged_in(airflow, "admin")) as admin:
        plugins = admin.get(f"{airflow}/api/v2/plugins").raise_for_status().json()["plugins"]
        errors = admin.get(f"{airflow}/api/v2/plugins/importErrors").raise_for_status().json()
    (ours,) = [plugin for plugin in plugins if plugin["name"] == "pingmesh"]
    assert {view["destination"] for view in ours["external_views"]} == {"nav", "dag_run"}
    assert errors["total_entries"] == 0


def test_the_entry_in_airflows_navigation_opens_the_page(reader, airflow):
    reader.goto(f"{airflow}/")
    reader.get_by_role("link", name="Pingmesh").click()
    frame = frame_of(reader)
    frame.wait_for_selector("html[data-ready]", state="attached")
    assert frame.url.startswith(f"{airflow}/pingmesh/")
    assert "12 hosts" in frame.get_attribute("#overlay", "aria-label")


def test_the_tab_of_a_run_shows_the_page_at_that_runs_window(reader, airflow):
    reader.goto(f"{airflow}/dags/pingmesh/runs/{RUN}")
    reader.click("a[href$='/plugin/pingmesh-run']")
    frame = frame_of(reader)
    frame.wait_for_selector("#clock")
    assert frame.url == f"{airflow}/pingmesh/?window=20261121T220500Z"


def test_acknowledge_and_silence_start_runs_of_alert_admin_as_the_reader(reader, airflow):
    reader.goto(links_of(notice(source=ALARM), airflow).page)
    frame = frame_of(reader)
    frame.locator("tbody tr", has_text="Host down").click()
    incident = frame.evaluate("new URLSearchParams(location.hash.slice(1)).get('inc')")
    frame.fill(".detail input", "on it")
    for button in ("Acknowledge", "Silence"):
        with reader.expect_response(lambda answer: answer.request.method == "POST") as asked:
            frame.get_by_role("button", name=button, exact=True).click()
        assert asked.value.status == 200, asked.value.text()
    with closing(logged_in(airflow, "admin")) as admin:
        runs = admin.get(f"{airflow}/api/v2/dags/alert_admin/dagRuns").raise_for_status().json()["dag_runs"]
    assert [run["triggering_user_name"] for run in runs] == ["admin", "admin"]
    told = {"incident": incident, "hours": 1, "by": "admin", "comment": "on it"}
    assert [run["conf"] for run in runs] == [told | {"action": "acknowledge"}, told | {"action": "silence"}]


def test_who_may_only_look_is_told_so_and_starts_nothing(chromium, airflow):
    page = chromium.new_page(locale="en-GB")
    page.context.add_cookies([{"name": "_token", "value": token_of(airflow, "looker"), "url": airflow}])
    page.goto(f"{airflow}/pingmesh/#tab=alarms")
    page.locator("tbody tr", has_text="Host down").click()
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_text("You may not run the Dag “alert_admin”.").wait_for()
    page.close()


def test_an_expired_session_says_so_and_a_new_login_comes_back(reader, airflow):
    reader.goto(f"{airflow}/pingmesh/#tab=alarms")
    reader.locator("tbody tr", has_text="Host down").click()
    (token,) = [cookie for cookie in reader.context.cookies() if cookie["name"] == "_token"]
    expired = reader.locator("#notice", has_text="Your session has expired.")
    reader.context.clear_cookies()
    reader.get_by_role("button", name="Acknowledge").click()
    expired.wait_for()
    reader.click("#notice button")
    reader.context.add_cookies([token | {"value": f"{token['value']}x"}])  # as if Airflow's key had been replaced
    reader.click("#tab-mesh")
    expired.wait_for()
    reader.click("#notice a")
    log_in(reader)
    reader.wait_for_selector("html[data-ready]", state="attached")
    assert reader.url.startswith(f"{airflow}/pingmesh/")


def test_no_secret_reaches_the_browser(looker, s3_server):
    for path in (
        "/",
        "/api/v1/boot",
        "/api/v1/fleet",
        "/api/v1/openapi.json",
        "/api/v1/matrix?window=20200101T000000Z",
    ):
        answer = looker.get(path)
        assert s3_server.secret_access_key not in answer.text
        assert looker.cookies["_token"] not in answer.text + str(answer.headers)


def test_a_process_that_serves_no_page_does_not_load_it(environment):
    program = """
import sys
sys.path.insert(0, "plugins/pingmesh_ui")
import airflow.plugins_manager
known = set(sys.modules)
import plugin
print("loaded:", *sorted(set(sys.modules) - known))
"""
    assert run_python(program, environment).stdout.splitlines()[-1] == "loaded: plugin"
