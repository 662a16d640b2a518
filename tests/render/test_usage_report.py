import base64
import hashlib
import json
import re
import subprocess
import warnings
from datetime import timedelta

import polars as pl
import pytest

from pingmesh_tasks.access.sessions import pair_sessions
from pingmesh_tasks.access.usage import online_over_time, summarize_usage
from pingmesh_tasks.render.usage_report import drawable, render_usage, render_usage_html, usage_sheet
from pingmesh_tasks.windows import Window
from tests.support import access_frames
from tests.support.needs import chromium, require
from tests.support.pictures import assert_readable, shown_texts
from tests.support.usage_frames import DAY, HOSTILE, ONLINE, WINDOW, busy, online_rows

NOBODY = ONLINE.to_frame()
NAMES = tuple(f"user{i}" for i in range(12))


def a_day(names=NAMES, servers=("east",)):
    starts = [DAY.start + timedelta(hours=i) for i in range(24)]
    usage = pl.concat([busy(names, window=start, server=server) for start in starts for server in servers])
    return usage, pl.concat([online_rows(DAY, server=server, steps=288) for server in servers]), DAY


def page_of(html):
    return json.loads(re.search(r"const PAGE = (.*);\n", html.decode())[1])


def test_the_picture_of_a_real_log_says_who_was_there_and_what_they_read():
    log = access_frames.Log()
    for at in (0, 30, 60):
        log.on("zhang", at, socket=4 + at)
        log.op(at + 1)
        log.off("zhang", at + 20, socket=4 + at)
    log.on("bob", 100, address="192.0.2.7", host="pc2")
    client, operation = log.frames()
    window = access_frames.WINDOW
    sessions = pair_sessions(client, None, window, operation=operation).table
    rejected = pl.DataFrame({"reason": ["stray_text"]})
    usage = summarize_usage(
        window, client, operation, sessions, rejected, lambda found: ["CN"] * len(found), server="east"
    )
    online = online_over_time(sessions, window).select(pl.lit("east").alias("server"), "at", "sessions", "users")
    texts = shown_texts(usage_sheet(usage, online, window))
    assert {"Usage of east", "zhang", "bob", r"\EAST::IP", "GetData", "CN", "0:03:20", "stray_text"} <= set(texts)
    assert "9.09 % of 11 lines" in texts and "3 disconnects" in texts and "no errors log was read" in texts


@pytest.mark.parametrize("servers", [1, 3, 9])
def test_no_two_texts_overlap_and_none_leaves_the_sheet(servers):
    names = tuple(f"data-server-{i}.archive.laboratory.example" for i in range(servers))
    assert_readable(usage_sheet(*a_day(servers=names)))
    usage = pl.concat([busy(NAMES, server=name) for name in names])
    assert_readable(usage_sheet(usage, pl.concat([online_rows(server=name) for name in names]), WINDOW))


def test_hostile_names_are_drawn_on_one_line_and_overlap_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        assert_readable(usage_sheet(busy(HOSTILE), online_rows(), WINDOW))
        sheet = usage_sheet(*a_day(HOSTILE[:9], servers=HOSTILE[:3]))
        assert_readable(sheet)
        assert_readable(usage_sheet(busy(HOSTILE[9:]), online_rows(server=HOSTILE[-4]), WINDOW))
    assert not any("\n" in text or "\x1b" in text or "\u202e" in text for text in shown_texts(sheet))
    assert drawable("陈 é 😂x")[-1] == "x" and drawable("陈 é").endswith("□ é")


def test_a_long_name_loses_its_middle():
    texts = shown_texts(usage_sheet(busy(("begin" + "x" * 250 + "end",)), NOBODY, WINDOW))
    assert any(re.fullmatch(r"begin.*….*end", text) for text in texts)


def test_great_figures_fit():
    assert_readable(usage_sheet(busy(NAMES, scale=10**11), online_rows(), WINDOW))


def test_a_list_shows_its_first_ten_and_the_sum_of_the_others():
    texts = shown_texts(usage_sheet(busy(NAMES), NOBODY, WINDOW))
    others = 5 + (1_000 - 7 * 10) + (1_000 - 7 * 11)
    assert "user9" in texts and "user10" not in texts and f"all others: 1\u2009{others - 1000} operations" in texts


def test_operations_by_type_are_bars_over_time_of_several_windows_and_a_list_of_one():
    over_time, of_one = shown_texts(usage_sheet(*a_day())), shown_texts(usage_sheet(busy(NAMES), NOBODY, WINDOW))
    assert "Operations by type, each 1 h" in over_time and "2026-11-21 UTC, the whole day" in "".join(over_time)
    assert "Operations by type" in of_one


def test_many_rejected_lines_are_red_and_a_few_are_not():
    def colours(rejected):
        usage = busy(NAMES).with_columns(
            value=pl.when(pl.col("measure") == "rejected").then(rejected).otherwise("value")
        )
        return {text.get_color() for text in usage_sheet(usage, NOBODY, WINDOW).texts}

    assert len(colours(10_000)) == len(colours(1)) + 1


@pytest.mark.parametrize("usage", [busy(()).clear(), busy(()).with_columns(value=pl.lit(0, pl.Int64))])
def test_an_empty_window_says_so(usage):
    sheet = usage_sheet(usage, NOBODY, WINDOW)
    said = "There is no usage of this window" if usage.is_empty() else "Nothing was logged in this window"
    assert any(text.startswith(said) for text in shown_texts(sheet)) and "Users" not in shown_texts(sheet)
    assert_readable(sheet)
    scope = page_of(render_usage_html(usage, NOBODY, WINDOW))["scopes"][0]
    assert scope["empty"] and scope["notes"][0].startswith(said)


@pytest.mark.parametrize("length_s", [60, 300, 3_600, 43_200, 86_400])
def test_windows_of_every_length_have_a_time_axis(length_s):
    window = Window(DAY.start, length_s)
    assert_readable(usage_sheet(busy(NAMES, window=DAY.start), online_rows(window, steps=1), window))


def test_the_same_figures_give_the_same_bytes_whatever_the_order_of_the_rows():
    usage, online, _ = a_day(servers=("east", "west"))
    mixed = usage.sample(fraction=1.0, shuffle=True, seed=3), online.sample(fraction=1.0, shuffle=True, seed=4), DAY
    assert render_usage(usage, online, DAY) == render_usage(*mixed)
    assert render_usage_html(usage, online, DAY) == render_usage_html(*mixed)


def test_the_page_has_each_data_server_alone_and_all_rows():
    page = page_of(render_usage_html(*a_day(tuple(f"u{i}" for i in range(40)), servers=("east", "west"))))
    assert [scope["name"] for scope in page["scopes"]] == ["All data servers", "east", "west"]
    users = [next(x for x in scope["lists"] if x["name"] == "users") for scope in page["scopes"]]
    assert [len(x["rows"]) for x in users] == [40, 40, 40]
    assert [x["rows"][0][1] for x in users] == [48_000, 24_000, 24_000]
    assert len(page_of(render_usage_html(*a_day()))["scopes"]) == 1


def test_the_page_may_run_its_own_script_and_nothing_else():
    html = render_usage_html(busy(HOSTILE), online_rows(), WINDOW).decode()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1]
    for kind in ("script", "style"):
        inline = re.search(rf"<{kind}>(.*?)</{kind}>", html, re.S)[1]
        digest = base64.b64encode(hashlib.sha256(inline.encode()).digest()).decode()
        assert f"{kind}-src 'sha256-{digest}'" in policy
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//|@import|innerHTML|style="|\son\w+=\"""", html)


def test_a_hostile_name_cannot_close_the_script_that_holds_it():
    html = render_usage_html(busy(HOSTILE), online_rows(server=HOSTILE[0]), WINDOW).decode()
    assert html.lower().count("<script") == 1 == html.lower().count("</script")
    assert "<img" not in html and "<svg" not in html and "<!--" not in html
    assert "\x1b" not in html and "\u202e" not in html and "\\u202e" not in html.replace("\\\\u202e", "")


@pytest.fixture
def opened(tmp_path):
    """Open a page in headless Chromium, run `act` as a reader's hand (its policy off), and return the DOM."""
    require("chromium")

    def open_page(html, act=""):
        if act:
            html = re.sub(rb"<meta http-equiv=[^>]*>", b"", html) + f"<script>{act}</script>".encode()
        (tmp_path / "page.html").write_bytes(html)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
        command = [chromium(), *flags, "--virtual-time-budget=1500", "--dump-dom", f"file://{tmp_path}/page.html"]
        return subprocess.run(command, capture_output=True, timeout=60, check=True, text=True).stdout

    return open_page


@pytest.mark.integration
def test_hostile_names_are_text_in_the_browser(opened):
    usage = pl.concat([busy(HOSTILE), busy(HOSTILE, server=HOSTILE[0])])
    dom = opened(render_usage_html(usage, online_rows(server=HOSTILE[0]), WINDOW))
    assert 'data-ready="yes"' in dom and "<title>Usage of the data servers</title>" in dom
    assert "<img" not in dom and "&lt;/script&gt;" in dom and dom.count("<script") == 1


@pytest.mark.integration
def test_an_empty_page_opens(opened):
    dom = opened(render_usage_html(busy(()).clear(), NOBODY, WINDOW))
    assert 'data-ready="yes"' in dom and "There is no usage of this window" in dom and "<table" not in dom


@pytest.mark.integration
def test_a_click_sorts_a_list_and_another_server_has_its_own_figures(opened):
    html = render_usage_html(*a_day(servers=("east", "west")))
    names = re.compile(r'data-list="users".*?</table>', re.S)
    act = "document.querySelectorAll('[data-list=users] th button')[1].click(); "
    rows = re.findall(r'<bdi class="cut" title="(\w+)"', names.search(opened(html, act))[0])
    assert rows[0] == "user11" and len(rows) == 10
    dom = opened(html, "document.querySelectorAll('[role=tab]')[2].click(); document.querySelector('.more').click()")
    table = names.search(dom)[0]
    assert table.count("<tr>") == 1 + 12 and "24\u2009000" in table and "48\u2009000" not in table


@pytest.mark.integration
def test_the_pointer_gets_the_figures_of_the_moment_it_is_at(opened):
    move = "new PointerEvent('pointermove', {clientX: box.left + 60, clientY: box.top + 40})"
    act = "const bars = document.querySelectorAll('.plot')[1], box = bars.getBoundingClientRect(); "
    act += f"bars.dispatchEvent({move})"
    tip = re.search(r'<div id="tip".*?(?=<script)', opened(render_usage_html(*a_day()), act), re.S)[0]
    assert "00:00–01:00 UTC" in tip and "user0" in tip and "1\u2009000" in tip
