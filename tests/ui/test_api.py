"""The page's API under a real web server, on a real S3 server, asked as a browser asks."""

import csv
import gzip
import io
import json
import struct
from datetime import UTC, datetime, timedelta

import httpx
import numpy as np
import polars as pl
import pytest
import zstandard
from pingmesh_ui.wire import csv_bytes

from pingmesh_tasks.matrix import codes
from pingmesh_tasks.matrix.build import map_parts
from pingmesh_tasks.store import layout
from pingmesh_tasks.store.tables import read_table
from tests.support.page_api_mesh import END, HOSTS, MESH, MESH_WINDOW, NAMES, NEWEST, WINDOWS, ask
from tests.support.page_data import NORMAL_WINDOWS, MadeMesh, fill, inventory_of
from tests.support.usage_frames import HOSTILE


def unpack(data):
    assert data[:4] == b"PMM1"
    (length,) = struct.unpack("<I", data[4:8])
    assert length % 8 == 0
    header = json.loads(data[8 : 8 + length])
    return header, np.frombuffer(data, "<u2", offset=8 + length).reshape(header["side"], header["side"])


def raw(client, path, encoding):
    """The answer as it came over the wire."""
    with client.stream("GET", path, headers={"accept-encoding": encoding}) as answer:
        return answer, b"".join(answer.iter_raw())


PATHS = [
    *("/", "/static/@/app.js", f"/run/pingmesh/{NEWEST}", "/docs", "/openapi.json", "/api/v1/openapi.json"),
    *("/api/v1/boot", "/api/v1/windows", f"/api/v1/matrix?window={NEWEST}", "/api/v1/axis/abcdef0123", "/nowhere"),
    *("/api/v1/anomalies", "/api/v1/incidents", "/api/v1/fleet", "/api/v1/usage", "/api/v1/sessions", "/api/v1/logs"),
]


# --- who may ask, and how


@pytest.mark.parametrize("path", PATHS)
def test_nobody_gets_an_answer_without_a_login(url, path):
    assert httpx.get(url + path).status_code == 401
    assert httpx.get(url + path, headers={"authorization": "Bearer other"}).status_code == 403


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_nothing_can_be_written(client, path, method):
    assert client.request(method, path).status_code == 405


@pytest.mark.parametrize("path", [*PATHS, "/api/v1/matrix?window=nonsense", "/static/@/../app.py"])
def test_every_answer_has_a_strict_policy_and_says_how_it_is_encoded(client, path):
    answer = client.get(path)
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["content-encoding"]


def test_there_are_no_docs_for_strangers(client):
    for path in ("/docs", "/redoc", "/openapi.json"):
        assert client.get(path).status_code == 404
    assert "/api/v1/matrix" in client.get("/api/v1/openapi.json").json()["paths"]


@pytest.mark.parametrize(
    "path",
    ["/static/@/../app.py", "/static/@/%2e%2e/app.py", "/static/@/..%2fapp.py", "/static/@//etc/passwd", "/static/@/"],
)
def test_no_path_leads_out_of_the_static_folder(client, path):
    assert client.get(path).status_code == 404


def test_a_static_file_is_kept_for_a_year_under_its_hash_only(client):
    page = client.get("/").text
    assert "static/@/" not in page
    name = next(part for part in page.split('"') if part.startswith("static/") and part.endswith(".js"))
    kept, fresh = client.get("/" + name), client.get("/static/@/" + name.split("/", 2)[2])
    assert kept.content == fresh.content
    assert "immutable" in kept.headers["cache-control"]
    assert "immutable" not in fresh.headers["cache-control"]
    assert kept.headers["content-type"].startswith("text/javascript")


def test_a_run_leads_to_the_page_at_its_window(client):
    answer = client.get("/run/pingmesh/scheduled__2026-11-21T22:10:00+00:00")
    assert answer.status_code == 303
    assert answer.headers["location"] == f"../../?window={NEWEST}"
    assert client.get("/run/pingmesh/other").json()["error"]["code"] == "no_run"


# --- what there is


def test_the_page_starts_with_what_there_is(client):
    boot = ask(client, "boot")
    assert [window["id"] for window in boot["windows"]] == [
        f"{datetime(2026, 11, 21, 22, 5, tzinfo=UTC) - timedelta(minutes=5 * back):%Y%m%dT%H%M%SZ}"
        for back in range(WINDOWS - 1, -1, -1)
    ]
    assert boot["newest"]["id"] == NEWEST
    assert boot["newest"]["hosts"] == HOSTS
    assert (boot["user"], boot["empty"], boot["schedule"]["paused"]) == ("alice", None, False)
    axis = ask(client, f"axis/{boot['newest']['plan']}")
    assert axis["hosts"] == list(NAMES)
    assert axis["axis"] == boot["newest"]["axis"]
    assert axis["dcs"][-1]["stop"] == HOSTS


def test_without_data_the_page_still_starts_and_says_so(empty):
    boot = ask(empty, "boot")
    assert boot["newest"] is None
    assert boot["windows"] == []
    assert boot["empty"]["code"] == "no_data"
    assert ask(empty, "windows")["windows"] == []
    assert ask(empty, "fleet") == {"window": None, "hosts": [], "outcomes": {}}
    assert ask(empty, "anomalies") == {"anomalies": [], "more": False}
    assert ask(empty, "incidents")["incidents"] == []
    assert ask(empty, "sessions")["window"] is None
    assert ask(empty, "series")["points"] == []


def test_windows_of_a_range_come_oldest_first_and_limited_from_the_newest(client):
    of = {"from": "20261121T215000Z", "to": "20261121T220500Z"}
    assert [w["id"] for w in ask(client, "windows", **of)["windows"]] == [
        "20261121T215000Z",
        "20261121T215500Z",
        "20261121T220000Z",
    ]
    some = ask(client, "windows", **of, limit=2)
    assert [w["id"] for w in some["windows"]] == ["20261121T215500Z", "20261121T220000Z"]
    assert some["more"]


def test_a_window_is_not_there_before_its_last_part_is(store, empty, monkeypatch):
    monkeypatch.setattr("pingmesh_tasks.queries.window_index.FRESH_S", 0.0)
    window = fill(store, 6, 1, end=END, pairs=False)[0]
    assert [w["id"] for w in ask(empty, "windows")["windows"]] == [window.id]
    other = window.shifted(-1)
    parts = dict(map_parts(MadeMesh(inventory_of(6)).codes(MadeMesh(inventory_of(6)).window(1)), plan="ab"))
    last = parts.popitem()
    for metric, data in parts.items():
        store.put(layout.table("mesh_map", other, metric), data)
    assert [w["id"] for w in ask(empty, "windows")["windows"]] == [window.id]
    store.put(layout.table("mesh_map", other, last[0]), last[1])
    assert [w["id"] for w in ask(empty, "windows")["windows"]] == [other.id, window.id]


# --- the map


@pytest.mark.parametrize("metric", list(codes.ALL_METRICS))
def test_a_matrix_is_that_of_the_window(client, metric):
    header, matrix = unpack(client.get("/api/v1/matrix", params={"window": NEWEST, "metric": metric}).content)
    wanted = MESH.codes(MESH.window(WINDOWS - 1)).codes[metric]
    assert matrix.tolist() == wanted.tolist()
    assert (header["side"], header["hosts"], header["metric"], header["lod"]) == (HOSTS, HOSTS, metric, 0)
    assert sum(header["cells"].values()) == HOSTS * HOSTS


def test_a_map_says_after_which_window_its_normal_was_and_what_it_looks_like(client):
    told = [
        unpack(client.get("/api/v1/matrix", params={"window": one["id"], "metric": "change"}).content)[0]
        for one in ask(client, "windows")["windows"]
    ]
    assert [header["normal"] for header in told] == [None, *(header["window"] for header in told[:-1])]
    assert told[0]["cells"]["measured"] == 0
    assert told[-1]["pattern"]["name"] == "host_down"
    assert told[-1]["pattern"]["suspects"] == [NAMES[MESH.dead]]


def test_change_is_offered_of_windows_and_asked_for_where_it_is_not_said_so(client, store, empty, monkeypatch):
    offered = {metric["name"]: metric["levels"] for metric in ask(client, "boot")["metrics"]}
    assert offered.pop("change") == ["window"]
    assert set(map(tuple, offered.values())) == {("window", "hour", "day")}
    monkeypatch.setattr("pingmesh_tasks.queries.window_index.FRESH_S", 0.0)
    old = fill(store, 6, 1, end=END, pairs=False)[0]
    version = ask(empty, "boot")["newest"]["v"]
    store.delete([layout.table("mesh_map", old, "change")])
    assert ask(empty, "boot")["newest"]["v"] != version
    for path in ("matrix", "worst"):
        answer = empty.get(f"/api/v1/{path}", params={"window": old.id, "metric": "change"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "no_table")
        assert "run" in answer.json()["error"]["message"]


@pytest.mark.parametrize("pool", ["max", "mean"])
def test_a_level_of_detail_is_the_pooled_matrix(client, pool):
    query = {"window": NEWEST, "metric": "p99", "lod": 2, "pool": pool}
    header, matrix = unpack(client.get("/api/v1/matrix", params=query).content)
    full = MESH.codes(MESH.window(WINDOWS - 1)).codes["p99"]
    assert matrix.tolist() == getattr(codes, f"pool_{pool}")(full, 2).tolist()
    assert (header["side"], header["pool"]) == (15, pool)


@pytest.mark.parametrize(
    ("offered", "chosen", "decode"),
    [
        ("gzip, deflate, br, zstd", "zstd", lambda data: zstandard.ZstdDecompressor().decompress(data)),
        ("gzip, deflate", "gzip", gzip.decompress),
        ("br", "identity", bytes),
        ("zstd;q=0, gzip;q=0", "identity", bytes),
        ("", "identity", bytes),
    ],
)
def test_an_answer_comes_in_the_best_encoding_that_is_offered(client, offered, chosen, decode):
    path = f"/api/v1/matrix?window={NEWEST}&metric=p50"
    answer, data = raw(client, path, offered)
    assert answer.headers["content-encoding"] == chosen
    assert answer.headers["vary"] == "Accept-Encoding"
    assert unpack(decode(data))[0]["metric"] == "p50"


def test_a_matrix_is_kept_forever_only_under_its_version(client):
    version = ask(client, "boot")["newest"]["v"]
    path = {"window": NEWEST, "metric": "p50", "lod": 1}
    kept = client.get("/api/v1/matrix", params=path | {"v": version})
    assert "immutable" in kept.headers["cache-control"]
    assert "private" in kept.headers["cache-control"]
    for query in (path, path | {"v": "0" * 12}):
        assert "immutable" not in client.get("/api/v1/matrix", params=query).headers["cache-control"]
    again = client.get("/api/v1/matrix", params=path, headers={"if-none-match": kept.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    other = client.get("/api/v1/matrix", params=path | {"lod": 2}, headers={"if-none-match": kept.headers["etag"]})
    assert other.status_code == 200


def test_a_rerun_of_a_window_is_seen(store, empty, monkeypatch):
    monkeypatch.setattr("pingmesh_tasks.queries.window_index.FRESH_S", 0.0)
    window = fill(store, 6, 1, end=END, pairs=False)[0]
    before = ask(empty, "boot")["newest"]["v"]
    first = empty.get("/api/v1/matrix", params={"window": window.id})
    fill(store, 7, 1, end=END, pairs=False)
    assert ask(empty, "boot")["newest"]["v"] != before
    second = empty.get("/api/v1/matrix", params={"window": window.id}, headers={"if-none-match": first.headers["etag"]})
    assert unpack(second.content)[0]["hosts"] == 7


def test_the_worst_cells_leave_out_hosts_that_are_silent(client):
    found = ask(client, "worst", window=NEWEST, metric="p99", count=10)
    assert [host["host"] for host in found["hosts"]] == [NAMES[MESH.dead], NAMES[MESH.silent]]
    full = MESH.codes(MESH.window(WINDOWS - 1)).codes["p99"].copy()
    for gone in (MESH.dead, MESH.silent):
        full[gone] = full[:, gone] = 0
    assert [cell["code"] for cell in found["worst"]] == sorted(full.ravel().tolist())[::-1][:10]
    for cell in found["worst"]:
        assert full[cell["row"], cell["column"]] == cell["code"]
        assert (NAMES[cell["row"]], NAMES[cell["column"]]) == (cell["src"], cell["dst"])
        assert cell["value"] == pytest.approx(1.005 ** (cell["code"] - 1), rel=1e-3)


def test_the_worst_cells_of_a_place_are_of_it(client):
    found = ask(client, "worst", window=NEWEST, src="dc1", dst=NAMES[-1], count=5)["worst"]
    assert {cell["dst"] for cell in found} == {NAMES[-1]}
    assert all(cell["src"].startswith("d1") for cell in found)


# --- figures


def test_a_pair_is_told_as_its_table_has_it(client, filled):
    rows = read_table(filled, "pair_latency", MESH_WINDOW)
    for src, dst in [(NAMES[0], NAMES[5]), (NAMES[59], NAMES[1]), (NAMES[1], NAMES[MESH.dead])]:
        wanted = rows.row(by_predicate=(pl.col("src") == src) & (pl.col("dst") == dst), named=True)
        (told,) = ask(client, "pair", window=NEWEST, src=src, dst=dst)["protocols"]
        for name in ("sent", "answered", "lost", "rtt_p50_us", "rtt_p99_us", "scope"):
            assert told[name] == wanted[name], name
        at = NAMES.index(src), NAMES.index(dst)
        assert told["normal_p50_us"] == pytest.approx(MESH.base[at], rel=1e-3)
        assert told["normal_windows"] == NORMAL_WINDOWS
        shares = [share for _, share in told["cdf"]]
        assert shares == sorted(shares)
        assert bool(shares) == bool(wanted["answered"])
        assert shares[-1:] in ([], [1.0])


def test_a_series_has_a_point_a_window(client):
    host = ask(client, "series", of="host", dst=NAMES[4], points=10)
    assert [point["window"] for point in host["points"]] == [w["id"] for w in ask(client, "windows")["windows"]]
    made = MESH.window(WINDOWS - 1)
    assert host["points"][-1]["sent"] == made.sent[:, 4].sum()
    assert host["points"][-1]["lost"] == made.lost[:, 4].sum()
    assert ask(client, "series", of="host", src=NAMES[MESH.silent])["points"][0]["p50_us"] is None


def test_a_long_series_is_thinned_from_the_newest(client):
    found = ask(client, "series", points=2)
    assert [point["window"] for point in found["points"]] == ["20261121T215000Z", NEWEST]
    assert (found["step"], found["of_windows"]) == (3, WINDOWS)


def test_a_series_of_a_pair_follows_its_codes(client):
    found = ask(client, "series", of="pair", src=NAMES[2], dst=NAMES[9])["points"]
    for seed, point in enumerate(found):
        made = MESH.window(seed)
        assert point["p50_us"] == pytest.approx(made.us["p50"][2, 9], rel=0.003)
        assert point["sent"] == 30
    assert ask(client, "series", of="pair", src=NAMES[2], dst=NAMES[MESH.dead])["points"][0]["state"] == "failed"
    assert ask(client, "series", of="pair", src=NAMES[2], dst=NAMES[2])["points"] == []
    assert ask(client, "series", of="pair", src="gone", dst=NAMES[2])["points"] == []


def test_groups_and_their_distributions_agree(client):
    groups = ask(client, "groups", window=NEWEST, of="podset")["groups"]
    assert sum(group["pairs"] for group in groups) == MESH.planned.sum()
    one = groups[0]
    found = ask(client, "cdf", window=NEWEST, of="podset", src=one["src"], dst=one["dst"])
    assert found["count"] == one["answered"]
    assert found["quantiles"]["p50_us"] == pytest.approx(one["p50_us"], abs=0.51)
    shares = [share for _, share in found["cdf"]]
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    assert found["cdf"][-1][0] <= found["max_us"] == one["max_us"]


# --- findings, fleet, use


def test_findings_come_newest_first_and_filtered(client):
    found = ask(client, "anomalies")["anomalies"]
    assert len(found) == 2 * WINDOWS
    assert [row["at"] for row in found] == sorted((row["at"] for row in found), reverse=True)
    assert found[0]["evidence"][0]["dst"] == NAMES[MESH.dead]
    critical = ask(client, "anomalies", severity="critical", limit=2)
    assert {row["rule"] for row in critical["anomalies"]} == {"host_down"}
    assert critical["more"]
    assert ask(client, "anomalies", source="west")["anomalies"] == []
    one = ask(client, "anomalies", **{"from": NEWEST, "to": "20261121T221000Z"})["anomalies"]
    assert {row["at"] for row in one} == {"2026-11-21T22:10:00Z"}


def test_incidents_are_what_the_alarm_remembers(client):
    found = ask(client, "incidents")["incidents"]
    assert {(one["rule"], one["state"]) for one in found} >= {("host_down", "open")}
    assert found[0]["opened_at"].endswith("Z")
    assert ask(client, "incidents", state="closed")["incidents"] == []


def test_the_fleet_says_who_failed_where(client):
    fleet = ask(client, "fleet")
    assert fleet["window"] == NEWEST
    assert fleet["outcomes"]["collect"] == {"ok": HOSTS - 2, "unreachable": 1, "no_segment": 1}
    assert len(fleet["hosts"]) == 3 * HOSTS
    assert ask(client, "fleet", window="20261121T220000Z")["window"] == "20261121T220000Z"


def test_hostile_names_stay_data(client):
    used = ask(client, "usage")["figures"]
    assert set(HOSTILE) <= {figure["key"] for figure in used}
    assert {session["user"] for session in ask(client, "sessions")["sessions"]} == set(HOSTILE)
    for path in ("usage", "sessions", "anomalies"):
        answer = client.get(f"/api/v1/{path}")
        assert b"<" not in answer.content
        assert answer.headers["content-type"] == "application/json"


def test_sessions_come_longest_first_and_limited(client):
    found = ask(client, "sessions", limit=3)
    lengths = [session["duration_s"] for session in found["sessions"]]
    assert lengths == sorted(lengths, reverse=True)
    assert found["more"]


@pytest.mark.parametrize(
    "path",
    [
        *("windows", "anomalies", "incidents", "fleet", "usage", "sessions", "logs", "series"),
        *(f"groups?window={NEWEST}", f"cdf?window={NEWEST}", f"worst?window={NEWEST}&count=3"),
        f"pair?window={NEWEST}&src={NAMES[0]}&dst={NAMES[5]}",
    ],
)
def test_every_list_is_a_file_too(client, path):
    sign = "&" if "?" in path else "?"
    told = client.get(f"/api/v1/{path}{sign}format=csv&download=true")
    assert told.status_code == 200
    assert told.headers["content-type"].startswith("text/csv")
    assert told.headers["content-disposition"].startswith('attachment; filename="pingmesh-')
    columns, *rows = csv.reader(io.StringIO(told.content.decode("utf-8-sig"), newline=""))
    assert rows
    assert {len(row) for row in rows} == {len(columns)}
    saved = client.get(f"/api/v1/{path}{sign}download=true")
    assert saved.headers["content-disposition"].endswith('.json"')
    assert saved.json()


def test_no_cell_of_a_file_is_a_formula():
    names = ["=1+1", "+1", "-1+2", "@SUM(A1)", "\t=1", "＝1", 'quoted","=1', "plain", -5, None]
    rows = list(
        csv.reader(io.StringIO(csv_bytes([{"a": name} for name in names], ["a"]).decode("utf-8-sig"), newline=""))
    )
    found = [row[0] if row else "" for row in rows[1:]]
    assert found == ["'=1+1", "'+1", "'-1+2", "'@SUM(A1)", "'\t=1", "'＝1", 'quoted","=1', "plain", "-5", ""]
