"""Methods of other packages: found by entry points, loaded when they are used, told apart in digests."""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import replace

import pytest

from della_bench.cli import main
from della_bench.errors import SpecError
from della_bench.spec import MergeSpec, Method, registry
from della_bench.spec.methods import METHODS
from della_bench.spec.registry import all_methods, find_method, method_names, register

KEYS = {"base": "b", "experts": "e+f"}
STRIPES = """
from della_bench.spec import Method, Option

def drop(delta, density, epsilon, words, *, width):
    return delta

METHOD = Method("stripes", "keeps stripes of rows", "this test",
                drop=drop, takes=("epsilon",), version="1",
                options=(Option("width", "rows of a stripe", int, default=1, least=1),))
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Return a function that installs a package of one module, whose entry points are {method: "module:METHOD"}."""
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def install(package: str, source: str, **offers: str) -> None:
        folder = tmp_path / package
        info = folder / f"{package.replace('-', '_')}-1.2.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.2\n")
        lines = [f"{name} = {value}" for name, value in offers.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{registry.GROUP}]", *lines, ""]))
        for module in {value.partition(":")[0] for value in offers.values()}:
            (folder / f"{module}.py").write_text(source)
            monkeypatch.delitem(sys.modules, module, raising=False)
        monkeypatch.syspath_prepend(folder)

    return install


def faults(**keys):
    with pytest.raises(SpecError) as caught:
        MergeSpec.parse({**KEYS, **keys})
    return caught.value.faults


def shown(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_a_built_in_method_is_found_by_its_name():
    for name, row in METHODS.items():
        assert find_method(name) == replace(row, package="della_bench")
    assert method_names() == list(METHODS) == list(all_methods())


def test_a_packages_method_is_a_method_like_every_other(install):
    install("striping", STRIPES, stripes="stripes_of_a_test:METHOD")
    spec = MergeSpec.parse(KEYS, merge_method="stripes", density=0.5, epsilon=0.1)
    assert (spec.density, spec.epsilon, spec.lambda_) == ((0.5, 0.5), (0.1, 0.1), 1.0)
    assert str(spec) == "base=b,experts=e+f,merge_method=stripes,density=0.5,epsilon=0.1"
    assert MergeSpec.parse(str(spec)) == spec
    assert MergeSpec.parse(KEYS, merge_method="stripes", density=0.5, epsilon=0.1, seed=1).unused == ("seed",)
    assert [fault.partition(":")[0] for fault in faults(merge_method="stripes")] == ["density", "epsilon"]


def test_a_packages_method_has_keys_of_its_own_like_the_tables(install, capsys):
    install("striping", STRIPES, stripes="stripes_of_a_test:METHOD")
    keys = {**KEYS, "merge_method": "stripes", "density": 0.5, "epsilon": 0.1}
    spec = MergeSpec.parse(keys, width="4")
    assert spec.options == (("width", 4),)
    assert str(spec).endswith("epsilon=0.1,width=4")
    assert MergeSpec.parse(str(spec)) == MergeSpec.parse(spec.as_keys(effective=True)) == spec
    assert MergeSpec.parse(keys, width=1) == MergeSpec.parse(keys)
    assert MergeSpec.parse(keys, width=1).digest != spec.digest
    assert faults(**{**keys, "width": 0}) == ["width=0: width is a whole number of at least 1"]
    assert "did you mean 'width'" in faults(**{**keys, "widht": 2})[0]
    assert "rows of a stripe" in shown(capsys, "methods")
    assert "rows of a stripe" in shown(capsys, "spec", str(spec))


def test_it_is_not_loaded_before_it_is_used(install):
    install("striping", STRIPES, stripes="stripes_of_a_test:METHOD")
    assert "stripes" in method_names()
    MergeSpec.parse(KEYS, merge_method="linear")
    assert "did you mean 'stripes'" in faults(merge_method="stripess")[0]
    assert "stripes_of_a_test" not in sys.modules


def test_a_digest_names_the_package_and_the_version_of_its_algorithm(install):
    keys = {**KEYS, "merge_method": "own"}
    digests = set()
    for package, version in (("one", "1"), ("one", "2"), ("other", "1")):
        registry._registered.pop("own", None)
        register(Method("own", "adds", "here", version=version), package)
        digests.add(MergeSpec.parse(keys).digest)
    assert len(digests) == 3


def test_a_method_that_does_not_load_is_an_error_of_its_use_that_names_the_package(install, caplog):
    install("broken", "import no_such_module", own="broken_module:METHOD")
    text = faults(merge_method="own")[0]
    assert "package broken offers it as broken_module:METHOD" in text
    assert "ModuleNotFoundError: No module named 'no_such_module'" in text
    with caplog.at_level(logging.WARNING, logger="della_bench"):
        assert list(all_methods()) == list(METHODS)
    assert ["package broken" in message for message in caplog.messages] == [True]


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("METHOD = 3", "it is int, not della_bench.spec.Method"),
        (STRIPES.replace('"stripes"', '"bands"'), "it calls itself 'bands'"),
        (STRIPES.replace(', version="1"', ""), "has no version"),
        (STRIPES.replace('("epsilon",)', '("gamma",)'), "takes=['gamma']"),
        (STRIPES.replace('Option("width"', 'Option("density"'), "option 'density'"),
        (
            STRIPES.replace("drop=drop", 'drop="magnitudes"').replace('takes=("epsilon",),', ""),
            "did you mean 'magnitude",
        ),
        (STRIPES.replace("drop=drop,", ""), "takes=['epsilon']"),
        (STRIPES.replace("drop=drop", 'drop=drop, rescale="l1"'), "scales what it keeps by itself"),
        (STRIPES.replace("drop=drop", "drop=drop, merge=drop"), "in the place of drop"),
    ],
)
def test_what_breaks_the_contract_is_told(install, source, told):
    install("striping", source, stripes="stripes_of_a_test:METHOD")
    assert told in faults(merge_method="stripes", density=0.5)[0]


def test_two_packages_with_one_name_are_told_and_neither_is_taken(install):
    install("one", STRIPES, stripes="stripes_one:METHOD")
    install("two", STRIPES, stripes="stripes_two:METHOD")
    assert "several packages: one, two" in faults(merge_method="stripes", density=0.5)[0]


def test_a_built_in_name_stays_what_it_is(install, caplog):
    install("striping", STRIPES.replace("stripes", "ties"), ties="stripes_of_a_test:METHOD")
    assert MergeSpec.parse(KEYS, merge_method="ties", density=0.5).method == find_method("ties")
    with caplog.at_level(logging.WARNING, logger="della_bench"):
        assert all_methods()["ties"].package == "della_bench"
    assert "that of striping is left out" in caplog.messages[0]


def test_another_method_of_a_name_that_is_taken_is_refused(install):
    own = Method("own", "adds", "here", version="1")
    assert register(own, "mine") == register(own, "mine")
    with pytest.raises(ValueError, match="there already, from mine"):
        register(replace(own, elect="sum"), "mine")


def test_listings_and_specs_show_a_packages_method(install, capsys):
    install("striping", STRIPES, stripes="stripes_of_a_test:METHOD")
    line = next(line for line in reversed(shown(capsys, "methods").splitlines()) if not line.startswith(" "))
    assert line.split()[0] == "stripes"
    assert line.endswith("this test, in package striping")
    row = json.loads(shown(capsys, "methods", "--json"))[-1]
    assert (row["name"], row["drop"], row["package"], row["version"]) == ("stripes", "function", "striping", "1")
    text = "base=b,experts=e,merge_method=stripes,density=0.5,epsilon=0.1"
    assert "in package striping" in shown(capsys, "spec", text)
