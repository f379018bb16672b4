"""The page of a search, in a browser: every plot is there, nothing is asked for, nothing complains."""

from __future__ import annotations

import re

import pytest

from della_bench.search.page import write_page
from tests.search.making import plan

FIGURES = ["flattery", "history-plot", "race-plot", "heat-plot", "importance-plot", "parallel-plot", "front-plot"]


@pytest.fixture
def page(searched, tmp_path):
    outcome = searched(search={"trials": 14})
    write_page(plan(tmp_path / "out", search={"trials": 14}), outcome, tmp_path / "search.html")
    return tmp_path / "search.html"


def test_every_plot_is_drawn_in_light_and_dark_and_nothing_is_asked_for(page, visit):
    for scheme in ("light", "dark"):
        shown = visit(page, color_scheme=scheme)
        assert shown.complaints == []
        assert shown.requests == [page.as_uri()]
        for figure in FIGURES:
            assert shown.tab.locator(f"#{figure} :is(svg[role=img], .remark)").count() >= 1, figure
        assert shown.tab.locator("#key-panels svg").count() == 4
        labels = shown.tab.locator("svg[role=img]").evaluate_all("each => each.map(one => one.ariaLabel)")
        assert all(labels)


def test_the_heat_map_is_over_any_two_keys(page, visit):
    shown = visit(page)
    shown.tab.select_option("#heat-x", "merge_method")
    shown.tab.select_option("#heat-y", "lambda")
    shown.tab.select_option("#heat-of", "mean")
    label = shown.tab.locator("#heat-plot svg[role=img]").get_attribute("aria-label")
    assert label.startswith("The mean score by merge_method and lambda")


def test_on_a_phone_nothing_is_wider_than_the_page(page, visit):
    shown = visit(page)
    shown.tab.set_viewport_size({"width": 390, "height": 844})
    shown.tab.wait_for_function("document.querySelector('#history-plot svg').clientWidth <= 390")
    assert shown.tab.evaluate("document.documentElement.scrollWidth") == 390


def test_several_numbers_stand_with_their_intervals_and_one_candidate_has_readable_axes(searched, tmp_path, visit):
    search = {"maximize": ["zoo_math", "zoo_code"], "trials": 3}
    outcome = searched(search=search)
    write_page(plan(tmp_path / "out", search=search), outcome, tmp_path / "front.html")
    assert re.search(r"zoo_math \d+\.\d \[\d+\.\d, \d+\.\d\], zoo_code", (tmp_path / "front.html").read_text())
    one = searched("one", search={"trials": 1})
    write_page(plan(tmp_path / "one", search={"trials": 1}), one, tmp_path / "one.html")
    shown = visit(tmp_path / "one.html")
    assert not [text for text in shown.texts("svg text") if "000000" in text]


def test_without_scripts_the_tables_say_it_all(page):
    text = page.read_text()
    assert "the winner" in text
    assert len(re.findall(r"<tr><th scope=\"row\">#\d+</th>", text)) == 14
    assert re.search(r"stopped</td><td class=\"number\">–</td>", text)  # a part of a score stands nowhere
