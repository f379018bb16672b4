"""The page in a real browser. Each test opens it afresh; the folders and the file are made once."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from della_bench.results.leaderboard import build_table
from della_bench.results.page import Limits, write_page
from tests.browsing import Visit
from tests.results.making import BASE_SPEC, plain_folder, scored
from tests.results.page.tables import HOSTILE, answers, hostile, models

Open = Callable[..., Visit]

SORTED = "#leaderboard thead th[aria-sort]"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    write_page(models(folder / "runs"), folder / "page.html")
    return folder / "page.html"


@pytest.fixture(scope="module")
def hostile_page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("hostile")
    write_page(hostile(folder / "runs"), folder / "page.html")
    return folder / "page.html"


def versus(visit: Visit, name: str, measure: str = "math") -> str:
    row = visit.tab.locator("#leaderboard tbody tr", has=visit.tab.get_by_text(name, exact=True))
    return str(row.locator(f".versus[data-measure='{measure}']").text_content())


def test_it_opens_without_a_complaint_and_asks_for_nothing(page: Path, visit: Open) -> None:
    found = visit(page)
    found.tab.locator("button.cell").first.click()
    found.tab.wait_for_selector("#item pre")
    found.tab.keyboard.press("Escape")
    assert found.complaints == []
    assert [url for url in found.requests if not url.startswith("data:")] == [page.as_uri()]


def test_the_policy_stops_a_script_and_a_request_that_are_not_the_pages(page: Path, visit: Open) -> None:
    found = visit(page)
    found.tab.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "document.title = 'taken'";
          const image = new Image();
          image.src = "http://127.0.0.1:9/x.png";
          document.body.append(script, image);
        }"""
    )
    assert found.tab.title() == "Leaderboard"
    assert len(found.complaints) == 2
    assert all("Content Security Policy" in text for text in found.complaints)


def test_it_draws_a_panel_a_measure_a_scatter_and_all_pairs(page: Path, visit: Open) -> None:
    found = visit(page)
    assert found.tab.locator("#panels svg[role=img]").count() == 3
    assert found.tab.locator("#panels svg").first.locator("[data-mark=dot] > *").count() == 4
    assert found.tab.locator("#scatter svg[role=img]").count() == 1
    assert found.tab.locator("#heat td button").count() == 4 * 3
    for label in found.tab.locator("svg[role=img]").evaluate_all("all => all.map(each => each.ariaLabel)"):
        assert "4 models" in label


def test_a_head_sorts_by_its_column_and_says_so(page: Path, visit: Open) -> None:
    found = visit(page)
    assert found.names() == ["strong", "near", "base", "weak"]
    code = found.tab.get_by_role("button", name="code", exact=True)
    code.click()
    values = [float(text) for text in found.texts("#leaderboard tbody tr td:nth-of-type(3) .value")]
    assert values == sorted(values, reverse=True)
    assert found.tab.locator(SORTED).evaluate_all("all => all.map(h => [h.textContent.trim(), h.ariaSort])") == [
        ["code", "descending"]
    ]
    assert found.names()[-1] == "strong"
    code.click()
    assert found.names()[0] == "strong"
    found.tab.get_by_role("button", name="Model", exact=True).click()
    assert found.names() == ["base", "near", "strong", "weak"]


def test_a_filter_narrows_table_and_plots_and_tells_how_many(page: Path, visit: Open) -> None:
    found = visit(page)
    found.tab.get_by_label("Filter").fill("passthrough base")
    assert found.names() == ["base"]
    assert found.tab.locator("#shown").text_content() == "1 of 4 rows"
    assert found.tab.locator("#panels svg").first.locator("[data-mark=dot] > *").count() == 1
    found.tab.get_by_label("Filter").fill("no such model")
    assert found.names() == []
    found.tab.get_by_label("Filter").fill("")
    assert len(found.names()) == 4
    assert found.complaints == []


def test_a_pinned_row_is_what_the_others_are_compared_with(page: Path, visit: Open) -> None:
    found = visit(page)
    assert "better" in versus(found, "strong")
    assert "inside the noise" in versus(found, "near")
    assert versus(found, "base") == ""
    found.tab.get_by_role("button", name="Compare with strong").click()
    assert "worse" in versus(found, "base")
    assert versus(found, "strong") == ""
    pressed = found.tab.locator("button.pin[aria-pressed=true]")
    assert pressed.count() == 1
    assert found.tab.locator("#key strong").text_content() == "strong"
    pressed.click()
    assert versus(found, "base") == ""


def test_a_number_opens_its_samples_and_closes_again_by_the_keyboard_alone(page: Path, visit: Open) -> None:
    found = visit(page)
    cell = found.tab.get_by_role("button", name="samples of near on math")
    cell.focus()
    found.tab.keyboard.press("Enter")
    found.tab.wait_for_selector("#item pre")
    assert found.texts("#item pre")[:3] == ["prompt 0", "target 0", "response 0"]
    assert found.tab.evaluate("document.activeElement.closest('#items') !== null")
    found.tab.keyboard.press("ArrowDown")
    assert found.tab.locator("#item h3").first.text_content() == "Document 1"
    assert found.tab.locator("#items [aria-current]").count() == 1
    found.tab.keyboard.press("Escape")
    assert not found.tab.locator("dialog").is_visible()
    assert found.tab.evaluate("document.activeElement.className") == "cell"


def test_every_control_has_a_name_and_the_focus_is_visible(page: Path, visit: Open) -> None:
    found = visit(page)
    nameless = """() => [...document.querySelectorAll('button, input, select, summary')]
        .filter(each => !(each.ariaLabel || each.textContent.trim() || each.labels?.[0]?.textContent.trim()))
        .map(each => each.outerHTML)"""
    assert found.tab.evaluate(nameless) == []
    seen = set()
    for _ in range(12):
        found.tab.keyboard.press("Tab")
        seen.add(found.tab.evaluate("getComputedStyle(document.activeElement).outlineStyle"))
    assert seen == {"solid"}


def test_two_models_are_shown_side_by_side_where_they_differ(page: Path, visit: Open) -> None:
    found = visit(page)
    found.tab.get_by_role("button", name="samples of near on math").click()
    found.tab.get_by_label("Side by side with").select_option("base")
    found.tab.wait_for_selector(".sides")
    assert found.texts("#items .id") == ["5"]
    assert found.texts(".side h3") == ["near", "base"]
    assert "inside the noise" in str(found.tab.locator("dialog header p").text_content())
    found.tab.get_by_role("button", name="All").click()
    assert found.tab.locator("#items li").count() == 60


def test_right_wrong_and_search_narrow_the_items(page: Path, visit: Open) -> None:
    found = visit(page)
    found.tab.get_by_role("button", name="samples of strong on math").click()
    found.tab.wait_for_selector("#item pre")
    wrong = found.tab.locator("#choices button", has_text="Wrong")
    wrong.click()
    assert set(found.texts("#items .mark .hidden")) == {"wrong"}
    assert f"Wrong {found.tab.locator('#items li').count()}" == wrong.text_content()
    found.tab.locator("#choices button", has_text="All").click()
    found.tab.get_by_label("Search").fill("response 17")
    assert found.texts("#items .id") == ["17"]
    found.tab.get_by_label("Search").fill("nowhere")
    assert found.tab.locator("#item").text_content() == "No item of this kind."


def test_arrow_keys_walk_the_differences_and_enter_shows_the_items(page: Path, visit: Open) -> None:
    found = visit(page)
    assert found.tab.locator("#heat button[tabindex='0']").count() == 1
    found.tab.locator("#measure").select_option("math")
    found.tab.locator("#heat button[tabindex='0']").focus()
    assert "strong minus near" in str(found.tab.locator("#difference").text_content())
    found.tab.keyboard.press("ArrowRight")
    assert "strong minus base" in str(found.tab.locator("#difference").text_content())
    found.tab.keyboard.press("ArrowDown")
    found.tab.keyboard.press("ArrowDown")  # over the diagonal, where a row meets itself
    assert "weak minus base" in str(found.tab.locator("#difference").text_content())
    found.tab.keyboard.press("Enter")
    found.tab.wait_for_selector(".sides")
    assert found.texts(".side h3") == ["weak", "base"]


def test_the_axes_of_the_trade_off_can_be_chosen(page: Path, visit: Open) -> None:
    found = visit(page)
    found.tab.get_by_label("Across").select_option("average")
    label = str(found.tab.locator("#scatter svg").get_attribute("aria-label"))
    assert label.startswith("code against average") or label.startswith("math against average")
    found.tab.get_by_text("The same as a table").click()
    assert found.tab.locator("#scatter table tbody tr").count() == 4


def test_an_address_opens_the_item_that_it_names(page: Path, visit: Open) -> None:
    found = visit(page)
    found.tab.get_by_role("button", name="samples of near on math").click()
    found.tab.wait_for_selector("#item pre")
    found.tab.keyboard.press("ArrowDown")
    address = found.tab.url
    again = visit(page)
    again.tab.goto("about:blank")
    again.tab.goto(address)
    again.tab.wait_for_selector("#item pre")
    assert again.tab.locator("#item h3").first.text_content() == "Document 1"
    assert "near" in str(again.tab.locator("#viewer-title").text_content())


@pytest.mark.parametrize("address", ["#items=", "#items=x/y/z", "#items=%E0%A4%A/math/0", "#items=/math/1/none"])
def test_an_address_of_nothing_here_is_no_fault(page: Path, visit: Open, address: str) -> None:
    found = visit(page)
    found.tab.evaluate("address => { location.hash = address; }", address)
    assert not found.tab.locator("dialog").is_visible()
    assert found.complaints == []


def test_scripts_in_samples_are_shown_as_the_text_they_are(hostile_page: Path, visit: Open) -> None:
    found = visit(hostile_page)
    found.tab.get_by_role("button", name="samples of b on math").click()
    found.tab.wait_for_selector("#item pre")
    for text in HOSTILE:
        assert found.tab.locator("#item .response pre").first.evaluate("node => node.textContent") == text
        assert found.tab.locator("#item pre *").count() == 0
        found.tab.keyboard.press("ArrowDown")
    assert found.tab.title() == "Leaderboard"
    assert found.tab.locator("img").count() == 0
    assert found.complaints == []
    assert len([url for url in found.requests if not url.startswith("data:")]) == 1


def test_dark_and_light_have_their_own_colours(page: Path, visit: Open) -> None:
    colours = "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
    dot = "getComputedStyle(document.querySelector('#panels [data-mark=dot] [fill]')).fill"
    light, dark = visit(page, color_scheme="light").tab, visit(page, color_scheme="dark").tab

    def brightness(colour: str) -> int:
        return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))

    (light_page, light_ink), (dark_page, dark_ink) = light.evaluate(colours), dark.evaluate(colours)
    assert brightness(light_page) > 600 > 150 > brightness(light_ink)
    assert brightness(dark_page) < 150 < 600 < brightness(dark_ink)
    assert light.evaluate(dot) != dark.evaluate(dot)


def test_it_prints_with_dark_ink_on_white_even_from_a_dark_screen(page: Path, visit: Open) -> None:
    tab = visit(page, color_scheme="dark").tab
    tab.emulate_media(media="print", color_scheme="dark")
    assert tab.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert tab.evaluate("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
    assert not tab.get_by_label("Filter").is_visible()
    assert tab.pdf(print_background=False).startswith(b"%PDF")


def test_a_narrow_screen_scrolls_the_table_and_not_the_page(page: Path, visit: Open) -> None:
    tab = visit(page).tab
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.wait_for_function("document.querySelector('#panels svg').getBoundingClientRect().width < 360")
    assert tab.evaluate("document.documentElement.scrollWidth") <= 360
    frame, caption = (tab.locator(each).first for each in ("#table .scroll", "#caption"))
    for scrolled in (0, 1000):
        frame.evaluate(f"it => it.scrollLeft = {scrolled}")
        around, inside = frame.bounding_box(), caption.bounding_box()
        assert around["x"] < inside["x"]
        assert inside["x"] + inside["width"] < around["x"] + around["width"]


def test_without_scripts_the_numbers_are_there(page: Path, browser: Any) -> None:
    context = browser.new_context(java_script_enabled=False)
    tab = context.new_page()
    tab.goto(page.as_uri())
    assert len(tab.locator("#leaderboard tbody .name").all_text_contents()) == 4
    assert tab.locator("#leaderboard tbody .value").first.text_content() == "40.8"
    context.close()


def test_rows_that_cannot_be_compared_and_single_benchmarks_draw_too(tmp_path: Path, visit: Open) -> None:
    plain_folder(tmp_path / "a", "a", {"math": [1.0, 0.0, None]}, spec=BASE_SPEC)
    plain_folder(tmp_path / "b", "b", {"math": [1.0, 0.0, 1.0]}, revision=" of May")
    plain_folder(tmp_path / "c", "c", {"math": [None, None, None]})
    write_page(build_table([tmp_path]), tmp_path / "page.html")
    found = visit(tmp_path / "page.html")
    assert found.complaints == []
    assert "not compared" in str(found.tab.locator("#leaderboard tbody").text_content())
    assert not found.tab.locator("#tradeoff").is_visible()
    found.tab.get_by_role("button", name="samples of a on math").click()
    found.tab.locator("#choices button", has_text="Unscored").click()
    assert found.texts("#items .id") == ["2"]
    assert found.complaints == []


def test_rows_beyond_the_limits_keep_their_numbers_and_their_difference_from_the_baseline(
    tmp_path: Path, visit: Open
) -> None:
    write_page(models(tmp_path / "runs"), tmp_path / "page.html", limits=Limits(paired=2, sampled=2))
    found = visit(tmp_path / "page.html")
    assert found.names() == ["strong", "near", "base", "weak"]
    assert "better" in versus(found, "strong")
    assert "inside the noise" in versus(found, "near")
    found.tab.get_by_role("button", name="Compare with strong").click()
    assert "this page does not test this pair" in versus(found, "weak")
    assert found.tab.get_by_role("button", name="samples of near").count() == 0
    assert found.tab.locator("#heat td button").count() == 2
    assert found.complaints == []


def test_an_empty_table_opens(tmp_path: Path, visit: Open) -> None:
    write_page(build_table([tmp_path]), tmp_path / "page.html")
    assert visit(tmp_path / "page.html").complaints == []


def test_a_large_table_draws_what_is_in_sight_and_the_rest_when_the_reader_comes_there(
    tmp_path: Path, visit: Open
) -> None:
    tasks = [f"task {index}" for index in range(9)]
    for index in range(105):
        plain_folder(tmp_path / f"{index}", f"model {index}", {task: [float(index % 2), 1.0] for task in tasks})
    write_page(build_table([tmp_path]), tmp_path / "page.html", limits=Limits(paired=5, sampled=1))
    found = visit(tmp_path / "page.html")
    assert len(found.names()) == 40
    assert found.tab.locator("#panels svg").count() == 0
    found.tab.get_by_label("Filter").fill("model 104")
    assert found.names() == ["model 104"]
    found.tab.get_by_label("Filter").fill("")
    found.tab.get_by_label("Columns").fill("7")
    shown = found.tab.locator("#leaderboard thead th:not([hidden]) button")
    assert [text.strip() for text in shown.all_text_contents()] == ["Model", "Average", "task 7"]
    assert found.tab.locator("#leaderboard tbody tr").first.locator("td:visible").count() == 3
    for lines in (80, 105):
        found.tab.locator("#leaderboard .name").last.scroll_into_view_if_needed()
        found.tab.locator("#leaderboard .name").nth(lines - 1).wait_for(state="attached")
    found.tab.locator("#intervals").scroll_into_view_if_needed()
    found.tab.wait_for_selector("#panels svg")
    assert found.tab.locator("#panels svg[role=img]").count() == 2
    assert found.complaints == []


def test_a_wide_table_shows_its_first_columns_until_others_are_chosen(tmp_path: Path, visit: Open) -> None:
    tasks = [f"task {index:02}" for index in range(30)]
    for name, spec in (("base", BASE_SPEC), ("m", None)):
        plain_folder(tmp_path / name, name, {task: [1.0, 0.0, 1.0] for task in tasks}, spec=spec)
    write_page(build_table([tmp_path]), tmp_path / "page.html")
    found = visit(tmp_path / "page.html")
    shown = found.tab.locator("#leaderboard thead th:not([hidden]) button")
    assert [text.strip() for text in shown.all_text_contents()] == ["Model", "Average", *tasks[:12]]
    assert "30 tasks" in str(found.tab.locator(".lede").text_content())
    panels = str(found.tab.locator("#panels").text_content())
    assert "over 30 tasks" in panels
    assert "task 00, task 01" not in panels
    assert found.tab.locator("#panels svg").count() == 1
    found.tab.get_by_label("Columns").fill("29")
    line = found.tab.locator("#leaderboard tbody tr", has=found.tab.get_by_text("m", exact=True))
    assert line.locator("td").count() == 3
    assert "inside the noise" in versus(found, "m", "task 29")
    line.locator("button.cell").click()
    found.tab.wait_for_selector("#item pre")
    assert "on task 29" in str(found.tab.locator("#viewer-title").text_content())
    found.tab.keyboard.press("Escape")
    found.tab.get_by_label("Columns").fill("*")
    assert line.locator("td").count() == 32
    assert found.complaints == []


def test_one_benchmark_has_no_average_beside_it_and_no_link_to_what_is_not_there(tmp_path: Path, visit: Open) -> None:
    for name, spec in (("base", BASE_SPEC), ("m", None)):
        plain_folder(tmp_path / name, name, {"math": [1.0, 0.0]}, spec=spec)
    write_page(build_table([tmp_path]), tmp_path / "page.html")
    found = visit(tmp_path / "page.html")
    assert found.texts("#leaderboard thead button") == ["Model", "math"]
    for link in found.tab.locator("nav a").evaluate_all("all => all.map(each => each.getAttribute('href'))"):
        assert found.tab.locator(link).is_visible()
    assert found.complaints == []


def test_an_item_of_alpaca_eval_shows_both_answers_and_the_verdict_in_words(tmp_path: Path, visit: Open) -> None:
    plain_folder(tmp_path, "m", {"alpaca_eval": [1.0, 0.0]}, metric="answer_length")
    path = scored(tmp_path, "alpaca_eval", [1.0, 0.0], metric="win_rate")
    items = path.with_name(path.name.replace(".json", ".items.jsonl"))
    reply = "[{'model': 'model_2', 'rank': 1}, {'model': 'model_1', 'rank': 2}]"
    items.write_text(items.read_text().replace("because of 0", reply))
    write_page(build_table([tmp_path]), tmp_path / "page.html")
    found = visit(tmp_path / "page.html")
    found.tab.locator("button.cell").first.click()
    found.tab.wait_for_selector("#item pre")
    assert found.texts("#item h4") == [
        "Prompt", "Answer of the baseline", "Answer of the model", "What was scored", "Reply of the judge",
    ]  # fmt: skip
    told = str(found.tab.locator("#item .told").text_content())
    assert told.startswith("The judge preferred this answer to the baseline's. It saw this answer as the second")


def test_no_label_of_a_plot_or_a_difference_is_cut(tmp_path: Path, visit: Open) -> None:
    long = "a-merge-of-" + "-".join(f"expert{index}" for index in range(9))
    plain_folder(tmp_path / "a", long, {"math": answers(0.5, 20, 0), "code": answers(0.5, 20, 1)}, spec=BASE_SPEC)
    plain_folder(tmp_path / "b", "b", {"math": answers(0.5, 20, 2), "code": answers(0.5, 20, 3)})
    write_page(build_table([tmp_path]), tmp_path / "page.html")
    tab = visit(tmp_path / "page.html").tab
    cut = """name => [...document.querySelectorAll("#panels svg")].filter(svg => {
      const text = [...svg.querySelectorAll("text")].find(each => each.textContent === name);
      return !text || text.getBoundingClientRect().left < svg.getBoundingClientRect().left;
    }).length"""
    assert tab.evaluate(cut, long) == 0
    for place in ("thead span", "tbody th"):
        fits = "each => each.scrollWidth <= each.clientWidth + 1 && each.scrollHeight <= each.clientHeight + 1"
        assert tab.locator(f".heat {place}").evaluate_all(f"all => all.every({fits})")
