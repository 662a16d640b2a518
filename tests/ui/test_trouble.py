"""The page in a real Chromium when there is no data, no session or no store: it says so, and what can be done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.made_up_mesh import Mesh, serving

OpenPage = Callable[..., Any]


def test_without_data_the_page_says_what_will_come_when_and_what_to_check(open_page: OpenPage):
    with serving(Mesh(8, empty=True)) as address:
        page = open_page(address, ready=False)
        page.get_by_text("No measurements yet").wait_for()
        words = page.inner_text("#empty")
        assert "03:05" in words
        assert "PINGMESH_INVENTORY" in words
        for tab, says in (("alarms", "No alarms"), ("fleet", "No host has been contacted"), ("data", "log_servers")):
            page.click(f"#tab-{tab}")
            page.locator(f"#panel-{tab}", has_text=says).wait_for()


def test_without_data_the_page_says_that_the_dag_is_paused_instead_of_when_it_runs(open_page: OpenPage):
    with serving(Mesh(8, empty=True, paused=True)) as address:
        page = open_page(address, ready=False)
        page.get_by_text("The Dag “pingmesh” is paused").wait_for()
        assert "03:05" not in page.inner_text("#empty")
        chinese = open_page(address, ready=False, locale="zh-CN")
        chinese.get_by_text("已暂停").wait_for()


def test_an_expired_session_is_said_with_a_way_to_log_in_that_comes_back_here(open_page: OpenPage):
    mesh = Mesh(8)
    with serving(mesh, prefix="/airflow") as address:
        page = open_page(address)
        mesh.expired = True
        page.select_option("#metric", "p99")
        page.get_by_text("Your session has expired.").wait_for()
        link = page.get_attribute("#notice a", "href")
        assert link.startswith("/airflow/auth/login?next=")
        assert "m%3Dp99" in link
        mesh.expired = False
        page.select_option("#metric", "p90")
        page.wait_for_selector("#notice", state="hidden")
        mesh.expired = True
        page.reload()
        page.get_by_text("Your session has expired.").wait_for()


def test_a_store_that_does_not_answer_is_said_and_tried_again(open_page: OpenPage):
    mesh = Mesh(8, broken=True)
    with serving(mesh) as address:
        page = open_page(address, ready=False)
        page.get_by_text("The object store does not answer.").wait_for()
        mesh.broken = False
        page.click("text=Try again")
        page.wait_for_selector("html[data-ready]", state="attached")
