"""Judges that other packages offer: each test makes such a package, as pip would leave it."""

from __future__ import annotations

import logging
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from della_bench.cli import main
from della_bench.errors import JudgeError
from della_bench.judging.gsm8k.config import load_judge
from della_bench.judging.gsm8k.find import judge_names
from della_bench.resources import folder


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Yield a folder on sys.path in which a test installs its packages."""
    monkeypatch.syspath_prepend(tmp_path / "site")
    known = set(sys.modules)
    yield tmp_path / "site"
    for name in set(sys.modules) - known:
        del sys.modules[name]


def install(site: Path, package: str, entries: str, files: dict[str, str] | None = None) -> Path:
    """Install a package with `entries` of our group, and return its folder."""
    information = site / f"{package}-1.0.dist-info"
    information.mkdir(parents=True)
    (information / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(f"[della_bench.judges]\n{entries}\n")
    module = site / package
    module.mkdir()
    for name, text in (files or {}).items():
        (module / name).write_text(text)
    return module


def a_judge(place: Path, model: str = "their-model") -> Path:
    shutil.copytree(folder("judges") / "gsm8k_gpt4", place)
    text = (place / "judge.yaml").read_text()
    (place / "judge.yaml").write_text(text.replace("gpt-4.1-2025-04-14", model))
    return place


def test_a_judge_of_another_package_is_found_by_its_entry_points_name(site: Path) -> None:
    a_judge(install(site, "theirs", "strict = theirs.data_folder") / "data_folder")
    judge = load_judge("strict")
    assert (judge.name, judge.config.model) == ("strict", "their-model")


def test_an_entry_point_may_name_a_path(site: Path) -> None:
    text = "from pathlib import Path\nPLACE = Path(__file__).parent / 'in' / 'here'\nTEXT = str(PLACE)\n"
    module = install(site, "theirs", "one = theirs:PLACE\ntwo = theirs:TEXT", {"__init__.py": text})
    a_judge(module / "in" / "here")
    assert load_judge("one").config == load_judge("two").config
    assert load_judge("two").name == "two"


def test_other_packages_judges_stand_among_the_names_and_are_suggested_without_being_imported(site: Path) -> None:
    install(site, "theirs", "strictest = theirs.nowhere", {"__init__.py": "raise RuntimeError('imported')"})
    shipped = {place.parent.name for place in folder("judges").glob("*/judge.yaml")}
    assert judge_names() == sorted(shipped | {"strictest"})
    with pytest.raises(JudgeError, match=r"no judge 'strictes'.*did you mean 'strictest'"):
        load_judge("strictes")


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("theirs.nowhere", "ModuleNotFoundError"),
        ("theirs:nothing", "AttributeError"),
        ("theirs:NUMBER", "neither a package nor a path"),
        ("theirs", "no judge.yaml"),
        ("theirs.broken", "ZeroDivisionError"),
    ],
)
def test_what_does_not_load_names_its_package(site: Path, value: str, reason: str) -> None:
    install(site, "theirs", f"strict = {value}", {"__init__.py": "NUMBER = 1", "broken.py": "1 / 0"})
    with pytest.raises(JudgeError, match=f"'strict' of package theirs does not load: .*{reason}") as caught:
        load_judge("strict")
    assert caught.value.exit_code == 2


def test_another_package_cannot_take_a_shipped_judges_name(site: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    a_judge(install(site, "theirs", "gsm8k_gpt4 = theirs.place") / "place")
    assert load_judge("gsm8k_gpt4").config.model == "gpt-4.1-2025-04-14"
    assert "that of package theirs is left out" in caplog.text


def test_a_name_that_two_packages_offer_names_both(site: Path) -> None:
    for package in ("theirs", "yours"):
        a_judge(install(site, package, f"strict = {package}.place") / "place")
    with pytest.raises(JudgeError, match=r"offered by (theirs and by yours|yours and by theirs)"):
        load_judge("strict")


def test_the_list_shows_all_judges_and_says_which_does_not_load(
    site: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    a_judge(install(site, "theirs", "strict = theirs.place") / "place")
    install(site, "broken", "broken = broken:nothing", {"__init__.py": ""})
    with pytest.raises(SystemExit) as caught:
        main(["judge", "list"])
    assert caught.value.code == 2
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines() if line.strip()}
    assert {"exact", "gsm8k_gpt4", "gsm8k_gpt5_mini", "strict", "broken"} <= lines.keys()
    assert lines["strict"].split() == ["strict", "their-model", "2027-01-14", "theirs"]
    assert "of package broken does not load" in lines["broken"]
