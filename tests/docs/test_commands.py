"""The commands of the README and the docs exist: programs, options, tasks, files and make targets."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from lm_eval._cli.harness import HarnessCLI
from lm_eval.models.huggingface import HFLM
from typer.main import get_command

from della_bench.cli import app
from della_bench.models.arguments import SPEC_NAMES
from della_bench.plugin import MODEL_TYPES
from della_bench.spec.own_keys import own_key_names
from tests.docs.blocks import PAGES, PROJECT, Block, blocks, commands

SHELL = [block for page in PAGES for block in blocks(page) if block.language == "bash"]
# Of vLLM's own arguments those that the docs show: asking vLLM for all of them takes half a minute.
VLLM_ARGUMENTS = {"engine", "max_model_len", "tensor_parallel_size"}


def all_commands() -> Iterator[Any]:
    for block in SHELL:
        for words in commands(block):
            yield pytest.param(block, words, id=f"{block.page.name}:{block.line} {' '.join(words)[:60]}")


@pytest.mark.parametrize(("block", "words"), list(all_commands()))
def test_a_command_exists(block: Block, words: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    program, *arguments = words
    assert program in CHECKS, f"no check for {program}: add one to CHECKS"
    monkeypatch.setattr(sys, "argv", words)
    CHECKS[program](arguments)


def check_della_bench(arguments: list[str]) -> None:
    """Parse as the command line does, to the types of the values, and do nothing."""
    command = get_command(app)
    deaf(command)
    command.main(arguments, standalone_mode=False)


def deaf(command: Any) -> None:
    command.callback = lambda *_, **__: None
    for below in getattr(command, "commands", {}).values():
        deaf(below)


def check_lm_eval(arguments: list[str]) -> None:
    parsed = HarnessCLI().parse_args()  # of sys.argv
    if parsed.command != "run":
        return
    assert parsed.model in {"hf", *MODEL_TYPES}
    tasks = parsed.tasks if isinstance(parsed.tasks, list) else parsed.tasks.split(",")
    assert set(tasks) <= our_tasks()
    given = parsed.model_args or {}
    names = given.keys() if isinstance(given, Mapping) else {item.partition("=")[0] for item in given.split(",")}
    # "width" is a key of the method that the contributor's guide makes.
    known = {*SPEC_NAMES, *own_key_names(), "width", *inspect.signature(HFLM.__init__).parameters, *VLLM_ARGUMENTS}
    assert set(names) <= known


@cache
def our_tasks() -> set[str]:
    """Read out of the tasks' files, whose functions need not be imported for that."""
    names = set()
    for path in (PROJECT / "tasks").glob("*/*.yaml"):
        found = re.search(r"^task: (\S+)$", path.read_text(encoding="utf-8"), re.M)
        assert found, path
        names.add(str(yaml.safe_load(found[1])))
    return names


def check_make(arguments: list[str]) -> None:
    targets = re.findall(r"^([a-z-]+):", (PROJECT / "Makefile").read_text(encoding="utf-8"), re.M)
    assert set(arguments) <= set(targets)


def check_pip(arguments: list[str]) -> None:
    action, what, *rest = [argument for argument in arguments if argument not in ("-e", "--no-build-isolation")]
    text = (PROJECT / "pyproject.toml").read_text(encoding="utf-8")
    extras = re.findall(r"^(\w+) = \[", text[text.index("[project.optional-dependencies]") :], re.M)
    assert (action, rest) == ("install", [])
    assert re.fullmatch(r"\.|\.\[[a-z,]+\]|[a-z-]+(\[[a-z,]+\])?", what)
    assert set(re.findall(r"[a-z]+", what.partition("[")[2])) <= set(extras)


def check_python(arguments: list[str]) -> None:
    if arguments[:2] == ["-m", "pytest"]:
        check_pytest(arguments[2:])
    elif arguments[0] == "-m":
        assert (PROJECT / Path(*arguments[1].split("."))).with_suffix(".py").is_file()
    else:
        check_file(arguments)


def check_pytest(arguments: list[str]) -> None:
    paths = [argument for argument in arguments if argument.startswith("tests")]
    assert paths
    assert all((PROJECT / path.partition("::")[0]).exists() for path in paths)


def check_file(arguments: list[str]) -> None:
    assert (PROJECT / arguments[0]).exists()


def check_ray(arguments: list[str]) -> None:
    """Parse as Ray's command line does, and do nothing; what `symmetric-run` is to start is checked, too."""
    from ray.scripts.scripts import cli

    group: Any = cli
    own, _, started = " ".join(arguments).partition(" -- ")
    with group.commands[own.split()[0]].make_context(own.split()[0], own.split()[1:], resilient_parsing=True):
        pass
    if started:
        program, *rest = started.split()
        CHECKS[program](rest)


def check_srun(arguments: list[str]) -> None:
    """Slurm's own arguments are none here, so that the first word is what is started on each node."""
    program, *rest = arguments
    CHECKS[program](rest)


def anything(arguments: list[str]) -> None:
    """Programs that are not ours, whose arguments no release of ours changes."""


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "della-bench": check_della_bench,
    "lm_eval": check_lm_eval,
    "make": check_make,
    "pip": check_pip,
    "python": check_python,
    "ray": check_ray,
    "srun": check_srun,
    **dict.fromkeys((".venv/bin/python",), check_python),
    **dict.fromkeys((".venv/bin/della-bench",), check_della_bench),
    **dict.fromkeys(("git", "cd", "cp", "echo", "mkdir", "hf", "export", "source"), anything),
    **dict.fromkeys((".venv/bin/ruff", ".venv/bin/mypy"), anything),
}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:)([^)#]+)(?:#[\w-]*)?\)", page.read_text(encoding="utf-8"))
    assert [link for link in links if not (page.parent / link).exists()] == []


def test_the_front_page_leads_to_every_page() -> None:
    front = (PROJECT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in PAGES if page.name != "README.md" and page.name not in front] == []


def options_of(command: Any, path: str) -> Iterator[tuple[str, str]]:
    for name, inner in getattr(command, "commands", {}).items():
        yield from options_of(inner, f"{path} {name}")
    for parameter in command.params:
        names = [name for name in (*parameter.opts, *parameter.secondary_opts) if name.startswith("--")]
        if names and not getattr(parameter, "hidden", False):
            yield path, "|".join(map(re.escape, names))


def test_every_option_of_the_command_line_is_in_a_page() -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
    options = list(options_of(get_command(app), "della-bench"))
    assert len(options) > 100
    missing = [f"{path} {names}" for path, names in options if not re.search(rf"(?:{names})(?![\w-])", text)]
    assert missing == []
