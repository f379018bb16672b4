from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from della_bench.results.leaderboard import build_table
from della_bench.results.page import Limits, write_page
from della_bench.results.page.assets import APP, HERE, assets
from della_bench.results.page.blocks import pack
from della_bench.results.page.content import script_text
from della_bench.results.table import Table
from tests.results.making import BASE_SPEC, plain_folder
from tests.results.page.tables import HOSTILE, hostile, models


class Reader(HTMLParser):
    """Tags with their attributes, and the text of scripts and styles, as a browser's parser sees them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.raw: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem:
            tag, attributes = self.tags[-1]
            self.raw.append((tag, attributes, data))


def page(table: Any, folder: Path, **options: Any) -> Reader:
    write_page(table, folder / "page.html", **options)
    return Reader((folder / "page.html").read_text(encoding="utf-8"))


def unpacked(found: Reader, name: str) -> Any:
    text = "".join(text for _, attributes, text in found.raw if attributes.get("id") == name)
    return json.loads(zlib.decompress(base64.b64decode(text)))


def content(found: Reader) -> Any:
    return json.loads("".join(text for _, attributes, text in found.raw if attributes.get("id") == "content"))


def test_nothing_is_loaded_from_anywhere(tmp_path: Path) -> None:
    for tag, attributes in page(models(tmp_path / "runs"), tmp_path).tags:
        for name in ("src", "href", "srcset", "data", "action", "poster", "background"):
            value = attributes.get(name) or ""
            assert not value or value.startswith("#") or value == "data:,", f"<{tag} {name}={value}>"
        assert not any(name.startswith("on") or name == "style" for name in attributes), f"<{tag}> {attributes}"
    assert "@import" not in assets().style
    assert "url(" not in assets().style


def test_the_policy_names_every_script_and_style_and_allows_no_other(tmp_path: Path) -> None:
    found = page(models(tmp_path / "runs"), tmp_path)
    policies = [a["content"] for tag, a in found.tags if a.get("http-equiv") == "Content-Security-Policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policies[0]).split(";"))
    assert rules["default-src"] == "'none'"
    assert not re.search("unsafe|https?:|\\*", str(policies[0]))
    pieces: dict[int, tuple[str, str]] = {}
    for tag, attributes, text in found.raw:
        if attributes.get("type") is None:  # one that the browser runs; a parser may hand its text over in parts
            pieces[id(attributes)] = (tag, pieces.get(id(attributes), (tag, ""))[1] + text)
    assert sorted(tag for tag, _ in pieces.values()) == ["script", "script", "script", "style"]
    for tag, text in pieces.values():
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in rules[f"{tag}-src"]


def test_texts_of_models_never_become_markup(tmp_path: Path) -> None:
    found = page(hostile(tmp_path / "runs"), tmp_path)
    assert [tag for tag, _ in found.tags].count("script") == 3 + 1 + 3  # run, content, two cells and their documents
    assert not {"img", "b"} & {tag for tag, _ in found.tags}
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "document.title" not in text
    assert "example.com" not in text
    assert "\u2028" not in text
    assert "&lt;b&gt;bold&lt;/b&gt;" in text


def test_the_packed_texts_are_the_logged_ones(tmp_path: Path) -> None:
    found = page(hostile(tmp_path / "runs"), tmp_path)
    block = unpacked(found, content(found)["rows"][0]["cells"]["math"]["block"])
    documents = unpacked(found, "documents-0")
    assert block["response"][: len(HOSTILE)] == HOSTILE
    assert documents["target"][: len(HOSTILE)] == HOSTILE
    assert documents["prompt"][0] == f"prompt: {HOSTILE[0]}"


def test_no_script_of_ours_parses_text_as_html() -> None:
    for name in APP:
        text = (HERE / "app" / name).read_text(encoding="utf-8")
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|\beval\b|Function\(", text
        )


def test_a_prompt_of_its_own_stays_with_its_model(tmp_path: Path) -> None:
    for name in "ab":
        plain_folder(tmp_path / name, name, {"math": [1.0, 0.0]})
    log = next((tmp_path / "b").glob("samples_*"))
    log.write_text(log.read_text().replace("prompt 1", "<s>prompt 1"))
    found = page(build_table([tmp_path]), tmp_path)
    own = {row["name"]: unpacked(found, row["cells"]["math"]["block"])["own"] for row in content(found)["rows"]}
    assert unpacked(found, "documents-0")["prompt"] == ["prompt 0", "prompt 1"]
    assert own == {"a": {}, "b": {"1": "<s>prompt 1"}}


def test_a_cell_without_samples_says_why_and_is_no_button(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"math": [1.0, 0.0]}, samples=False)
    found = page(build_table([tmp_path]), tmp_path)
    assert "log_samples" in content(found)["rows"][0]["cells"]["math"]["reason"]
    assert not [1 for tag, attributes in found.tags if tag == "button" and attributes.get("class") == "cell"]


def test_samples_that_went_away_are_named_and_the_page_is_written(tmp_path: Path) -> None:
    table = models(tmp_path / "runs")
    next((tmp_path / "runs" / "weak").glob("samples_math*")).unlink()
    found = page(table, tmp_path)
    weak = next(row for row in content(found)["rows"] if row["name"] == "weak")
    assert weak["cells"]["math"]["block"] is None
    assert "samples_math" in weak["cells"]["math"]["reason"]
    assert weak["cells"]["code"]["block"]


def test_what_is_left_out_of_a_large_page_is_said(tmp_path: Path) -> None:
    found = page(models(tmp_path / "runs"), tmp_path, limits=Limits(rows=3, paired=2, sampled=1))
    rows = content(found)["rows"]
    assert [row["name"] for row in rows] == ["strong", "near", "base"]
    assert [bool(row["cells"]["math"]["block"]) for row in rows] == [False, False, True]  # the baseline, last or not
    assert content(found)["paired"]["rows"] == [0, 2]
    assert rows[1]["versus"]["math"]["wins"] == 1  # what the table knows of a row that is not paired
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "shows the first 3 of 4 models" in text
    assert "compares with one another the first 2 of 4 models" in text
    assert "has the samples of the first 1 of 4 models" in text


def test_against_the_tables_baseline_the_page_says_what_the_table_says(tmp_path: Path) -> None:
    table = models(tmp_path / "runs")
    value = content(page(table, tmp_path))
    base, n = value["baseline"], len(value["paired"]["rows"])
    assert table.rows[base].name == "base"
    for index, row in enumerate(table.rows):
        if index == base:
            continue
        a, b = sorted((index, base))
        at = a * n - a * (a + 1) // 2 + b - a - 1
        for name, versus in [("", row.versus), *((name, cell.versus) for name, cell in row.cells.items())]:
            assert versus is not None
            measure = value["paired"]["measures"][name]
            sign = 1 if index < base else -1
            assert sign * measure["difference"][at] == pytest.approx(versus.difference, abs=1e-3)
            assert measure["p"][at] == pytest.approx(versus.p, rel=1e-3)
            assert measure["holm"][index * n + base] == pytest.approx(versus.p_holm, rel=1e-3)


def test_reference_rows_are_shown_and_compared_with_nothing(tmp_path: Path) -> None:
    plain_folder(tmp_path / "a", "a", {"mbpp_alpaca": [1.0, 0.0]}, spec=BASE_SPEC)
    value = content(page(build_table([tmp_path], paper=True), tmp_path))
    assert value["paired"]["rows"] == [0]
    assert [row["reference"] for row in value["rows"]][:2] == [False, True]


def test_json_in_a_script_holds_nothing_that_ends_it() -> None:
    text = script_text({"x": "</script><!--<script>&\u2028\u2029\ud800"})
    assert not set("<>&\u2028\u2029") & set(text)
    assert text.isascii()
    assert json.loads(text) == {"x": "</script><!--<script>&\u2028\u2029\ud800"}


def test_packing_keeps_text_that_utf8_does_not_have() -> None:
    value = {"x": ["\ud800 \udfff", "\x00", "\ufeff", "\U0001f600", 'a"\\ud800']}
    assert json.loads(zlib.decompress(base64.b64decode(pack(value)))) == value


def test_vendored_libraries_are_what_their_note_says_and_bring_their_licenses() -> None:
    note = (HERE / "vendor" / "README.md").read_text(encoding="utf-8")
    for name in ("d3.min.js", "plot.umd.min.js"):
        assert hashlib.sha256((HERE / "vendor" / name).read_bytes()).hexdigest() in note
    assert all("Permission to use, copy, modify" in text for text in assets().licenses)


def test_an_empty_table_is_a_page_too(tmp_path: Path) -> None:
    value = content(page(build_table([tmp_path]), tmp_path))
    assert (value["rows"], value["paired"]["rows"]) == ([], [])


def _empty(benchmarks: int) -> Table:
    return Table(rows=(), benchmarks=tuple(map(str, range(benchmarks))), averaged=())


def test_with_more_benchmarks_fewer_rows_are_compared_pair_by_pair() -> None:
    for benchmarks in (1, 3, 9, 10, 40, 300, 60_000):
        limits = Limits().for_table(_empty(benchmarks))
        pairs = limits.paired * (limits.paired - 1) // 2
        assert pairs * (benchmarks + 1) <= limits.comparisons
        assert limits.paired == 100 or (pairs + limits.paired) * (benchmarks + 1) > limits.comparisons
    assert Limits().for_table(_empty(9)).paired == 100


def test_with_more_items_fewer_rows_have_their_samples(tmp_path: Path) -> None:
    table = models(tmp_path / "runs", n=60)  # four rows of 120 items
    assert Limits().for_table(table).sampled == 4
    assert Limits(items=300).for_table(table).sampled == 2
    assert Limits(items=1).for_table(table).sampled == 1
