"""The start-up hook, in scratch environments whose site-packages hold our `.pth` file, as an installation's would.

Each environment sees this checkout and the packages of the running interpreter, but none of the latter's `.pth` files.
lm-eval is a copy with few of its tasks: it takes ten seconds to look through all of them.
"""

from __future__ import annotations

import json
import os
import pkgutil
import shutil
import subprocess
import sys
import textwrap
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import lm_eval
import pytest

import della_bench._autoload
from della_bench.errors import DataError, SpecError
from della_bench.plugin import render_error
from tests.waiting import HANGS

PACKAGE = Path(della_bench._autoload.__file__).parent
ROOT = PACKAGE.parent
LM_EVAL = Path(lm_eval.__file__).parent


class Environment:
    """A virtual environment without pip, and what it takes to run its Python."""

    def __init__(self, path: Path) -> None:
        venv.create(path, with_pip=False, symlinks=True)
        self.python = path / "bin" / "python"
        (self.site,) = path.glob("lib/python*/site-packages")

    def see(self, *folders: Path) -> None:
        (self.site / "_paths.pth").write_text("".join(f"{folder}\n" for folder in folders), encoding="utf-8")

    def add_hook(self) -> None:
        shutil.copy(PACKAGE / "_autoload.pth", self.site / "della_bench_autoload.pth")

    def add_lm_eval(self) -> None:
        def left_out(folder: str, names: list[str]) -> list[str]:
            if Path(folder) != LM_EVAL / "tasks":
                return ["__pycache__"]
            return [name for name in names if (Path(folder) / name).is_dir() and name != "gsm8k"]

        shutil.copytree(LM_EVAL, self.site / "lm_eval", ignore=left_out)

    def run(self, *args: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "DELLA_BENCH"))}
        return subprocess.run(
            [str(self.python), *args],
            env={**kept, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **(env or {})},
            cwd=self.site.parent,
            capture_output=True,
            text=True,
            timeout=HANGS,
        )

    def code(self, code: str, *flags: str) -> str:
        """Run `code` and return what it prints; it must succeed and say nothing on stderr."""
        done = self.run(*flags, "-c", textwrap.dedent(code))
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Our checkout, the hook, and the real lm-eval with few tasks."""
    made = Environment(tmp_path_factory.mktemp("environment"))
    made.see(ROOT, LM_EVAL.parent)
    made.add_hook()
    made.add_lm_eval()
    return made


@pytest.fixture
def bare(tmp_path: Path) -> Environment:
    """The hook alone: no package, no lm-eval."""
    made = Environment(tmp_path / "bare")
    made.add_hook()
    return made


# ---- start-up ----


def test_start_up_imports_the_hook_and_nothing_else(environment):
    loaded = environment.code(
        f"""
        import site, sys
        before = set(sys.modules)
        site.addsitedir({str(environment.site)!r})
        print(*sorted(set(sys.modules) - before))
        """,
        "-S",
    )
    assert loaded.split() == ["della_bench", "della_bench._autoload"]


def test_python_starts_in_silence_where_the_package_is_gone(bare):
    assert bare.code("print('started')") == "started"


def test_python_starts_and_says_so_where_the_package_is_broken(bare):
    (bare.site / "della_bench").mkdir()
    (bare.site / "della_bench" / "__init__.py").write_text("import no_such_module\n", encoding="utf-8")
    done = bare.run("-c", "print('started')")
    assert (done.returncode, done.stdout) == (0, "started\n")
    assert "No module named 'no_such_module'" in done.stderr


def test_without_lm_eval_its_import_fails_as_it_always_did(bare):
    bare.see(ROOT)
    code = "\ntry:\n    import lm_eval.models\nexcept ModuleNotFoundError as error:\n    print(error.name)\n"
    assert bare.code(code) == "lm_eval"


def test_the_start_file_names_the_function_that_the_pth_line_calls():
    (line,) = (PACKAGE / "_autoload.start").read_text(encoding="utf-8").splitlines()
    assert pkgutil.resolve_name(line) is della_bench._autoload.install


def test_the_pth_file_has_one_line_of_code_in_ascii():
    lines = (PACKAGE / "_autoload.pth").read_text(encoding="ascii").splitlines()
    assert [line.startswith("import ") for line in lines if not line.startswith("#")] == [True]


# ---- registration ----


def test_models_are_known_beside_the_built_in_ones_and_not_imported(environment):
    said = environment.code(
        """
        import sys
        import lm_eval.models
        from lm_eval.api.registry import model_registry
        print("hf" in model_registry, "della_merged" in model_registry, "torch" in sys.modules)
        """
    )
    assert said == "True True False"


def test_asking_lm_eval_for_a_model_is_enough(environment):
    """`get_model` imports lm_eval.models only where its registry is empty: nothing of ours may fill it before."""
    said = environment.code(
        """
        import lm_eval.api.registry as registry
        registry.get_model("dummy")
        print("hf" in registry.model_registry, "della_merged" in registry.model_registry)
        """
    )
    assert said == "True True"


def test_a_hook_that_comes_late_registers_at_once_and_stands_there_once(environment):
    said = environment.code(
        f"""
        import sys
        sys.path += [{str(environment.site)!r}, {str(LM_EVAL.parent)!r}, {str(ROOT)!r}]
        import lm_eval.models
        from lm_eval.api.registry import model_registry
        from della_bench._autoload import install
        print("della_merged" in model_registry)
        install()
        install()
        print("della_merged" in model_registry, sum("della" in repr(finder) for finder in sys.meta_path))
        """,
        "-S",
    )
    assert said.split() == ["False", "True", "1"]


def test_register_does_without_the_hook_and_may_be_called_again(environment):
    said = environment.code(
        f"""
        import sys
        sys.path += [{str(environment.site)!r}, {str(LM_EVAL.parent)!r}, {str(ROOT)!r}]
        from della_bench.plugin import register
        register()
        from lm_eval.api.registry import model_registry
        from lm_eval.tasks import TaskManager
        wrapped = TaskManager.__init__
        register()
        print("hf" in model_registry, "della_merged" in model_registry, TaskManager.__init__ is wrapped)
        print("gsm8k_cot_zeroshot_alpaca" in TaskManager().all_tasks)
        """,
        "-S",
    )
    assert said.split() == ["True"] * 4


def test_the_watched_modules_keep_their_own_loader_and_can_be_reloaded(environment):
    said = environment.code(
        """
        import importlib, importlib.util, inspect
        import lm_eval.models, lm_eval.tasks.manager
        from importlib.machinery import SourceFileLoader
        for module in lm_eval.models, lm_eval.tasks.manager:
            assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader
            assert "def " in inspect.getsource(module)
            assert importlib.util.find_spec(module.__name__) is module.__spec__
            importlib.reload(module)
            assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader
        print("gsm8k_cot_zeroshot_alpaca" in lm_eval.tasks.manager.TaskManager().all_tasks)
        """
    )
    assert said == "True"


def test_a_spec_that_is_found_but_not_run_answers_like_any_other(environment):
    said = environment.code(
        """
        import importlib.util
        spec = importlib.util.find_spec("lm_eval.models")
        print("MODEL_MAPPING" in spec.loader.get_source(spec.name), spec.loader.is_package(spec.name))
        """
    )
    assert said == "True True"


@pytest.mark.parametrize("module", della_bench._autoload.WATCHED)
def test_an_error_of_ours_becomes_the_error_of_the_import_each_time(environment, module):
    said = environment.code(
        f"""
        from della_bench import plugin

        def fail():
            raise RuntimeError("ours")

        plugin.register_models = plugin.register_tasks = fail
        for _ in range(2):
            try:
                import {module}
            except RuntimeError as error:
                print(error)
        """
    )
    assert said.split() == ["ours", "ours"]


# ---- tasks ----


def test_lm_eval_ls_lists_our_tasks_beside_its_own(environment):
    listed = environment.run("-m", "lm_eval", "ls", "tasks").stdout
    assert "|gsm8k " in listed
    assert "|gsm8k_cot_zeroshot_alpaca " in listed
    assert "|gsm8k_cot_zeroshot_alpaca_verbatim|" in listed


def test_the_users_include_path_comes_last_in_every_form_and_defaults_can_be_left_out(environment, tmp_path):
    yaml = "task: {}\ndataset_path: none\n"
    (tmp_path / "own.yaml").write_text(yaml.format("gsm8k_cot_zeroshot_alpaca"), encoding="utf-8")
    (tmp_path / "other.yaml").write_text(yaml.format("users_task"), encoding="utf-8")
    said = environment.code(
        f"""
        import json, logging
        from pathlib import Path
        from lm_eval.tasks import TaskManager
        logging.disable()
        folder = {str(tmp_path)!r}
        seen = []
        for given in (None, "", folder, Path(folder), [folder], (Path(folder),)):
            manager = TaskManager(include_path=given)
            assert manager.include_path is given
            entry = manager.task_index["gsm8k_cot_zeroshot_alpaca"]
            seen.append([str(entry.yaml_path.parent), "users_task" in manager.all_tasks, "gsm8k" in manager.all_tasks])
        print(json.dumps(seen))
        print(json.dumps(TaskManager(None, folder, False).all_tasks))
        print(json.dumps(TaskManager(include_defaults=False).all_tasks))
        """
    )
    seen, theirs, nothing = map(json.loads, said.splitlines())
    ours = str(ROOT / "tasks" / "gsm8k_cot_zeroshot_alpaca")
    assert seen == [[ours, False, True]] * 2 + [[str(tmp_path), True, True]] * 4
    assert theirs == ["gsm8k_cot_zeroshot_alpaca", "users_task"]
    assert nothing == []


@pytest.mark.slow
def test_our_tasks_take_no_name_that_lm_eval_has():
    """Not a tag's either: a tag of ours would replace lm-eval's of that name, and hide its tasks."""
    from lm_eval.tasks._index import TaskIndex

    assert not set(TaskIndex.build([ROOT / "tasks"])) & set(TaskIndex.build([LM_EVAL / "tasks"]))


# ---- errors ----

# What the tests of the display need of lm-eval, so that they start in no time: a command line that catches nothing.
FAKE_LM_EVAL = {
    "__init__.py": "",
    "models.py": "",
    "__main__.py": """
        import os
        import lm_eval.models
        from della_bench.errors import DataError, SpecError

        def cli_evaluate():
            exec(os.environ["CODE"], globals())

        if __name__ == "__main__":
            cli_evaluate()
        """,
    "api/__init__.py": "",
    "api/registry.py": """
        class Registry(dict):
            def register(self, name, target):
                self[name] = target

        model_registry = Registry()
        """,
}
SCRIPT = "import sys; from lm_eval.__main__ import cli_evaluate; sys.exit(cli_evaluate())"
TWO_FAULTS = "raise SpecError(['density: missing', 'seed: not a number'])"
AS_ONE_MESSAGE = "della_bench: error: density: missing\n  seed: not a number\n"


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    made = Environment(tmp_path_factory.mktemp("fake"))
    made.see(ROOT)
    made.add_hook()
    for name, text in FAKE_LM_EVAL.items():
        path = made.site / "lm_eval" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(text), encoding="utf-8")
    return made


@pytest.mark.parametrize("command", [["-m", "lm_eval"], ["-c", SCRIPT]], ids=["module", "script"])
def test_under_lm_evals_command_line_an_error_is_one_message_and_the_exit_code(fake, command):
    done = fake.run(*command, env={"CODE": TWO_FAULTS})
    assert (done.returncode, done.stderr) == (2, AS_ONE_MESSAGE)
    done = fake.run(*command, env={"CODE": "raise DataError('no network')"})
    assert (done.returncode, done.stderr) == (1, "della_bench: error: no network\n")


def test_exit_handlers_still_run_and_output_is_flushed(fake):
    code = f"import atexit; atexit.register(print, 'handler'); print('output'); {TWO_FAULTS}"
    done = fake.run("-m", "lm_eval", env={"CODE": code})
    assert (done.returncode, done.stdout) == (2, "output\nhandler\n")


def test_an_error_raised_from_ours_is_shown_as_ours(fake):
    code = f"""
try:
    {TWO_FAULTS}
except SpecError as error:
    raise ValueError("wrapped") from error
"""
    done = fake.run("-m", "lm_eval", env={"CODE": code})
    assert (done.returncode, done.stderr) == (2, AS_ONE_MESSAGE)


def test_an_error_while_ours_is_handled_is_not_hidden_behind_it(fake):
    code = f"""
try:
    {TWO_FAULTS}
except SpecError:
    raise ValueError("another")
"""
    done = fake.run("-m", "lm_eval", env={"CODE": code})
    assert done.returncode == 1
    assert done.stderr.endswith("ValueError: another\n")


def test_errors_of_others_reach_the_hook_that_was_there(fake):
    done = fake.run("-m", "lm_eval", env={"CODE": "raise ValueError('theirs')"})
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")


@pytest.mark.parametrize(("value", "shown"), [("1", True), ("0", False), ("", False)])
def test_debugging_brings_the_traceback_back_and_keeps_the_exit_code(fake, value, shown):
    done = fake.run("-m", "lm_eval", env={"CODE": TWO_FAULTS, "DELLA_BENCH_DEBUG": value})
    assert done.returncode == 2
    assert done.stderr.startswith("Traceback") == shown


def test_python_callers_get_the_exception_and_its_traceback(fake):
    done = fake.run("-c", f"import lm_eval.models\nfrom della_bench.errors import SpecError\n{TWO_FAULTS}")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback")
    assert "della_bench.errors.SpecError: density: missing" in done.stderr


def test_the_real_command_line_shows_a_missing_data_set_as_one_message(environment, tmp_path):
    command = ["-m", "lm_eval", "--model", "dummy", "--tasks", "gsm8k_cot_zeroshot_alpaca", "--limit", "1"]
    done = environment.run(*command, env={"DELLA_BENCH_DATA": str(tmp_path)})
    assert done.returncode == 2
    assert "della_bench: error: no data for gsm8k: " in done.stderr
    assert "Traceback" not in done.stderr


def test_a_message_starts_behind_the_prefix_and_goes_on_indented():
    assert render_error(DataError("no network")) == "della_bench: error: no network"
    assert render_error(SpecError(["a", "b"])) == "della_bench: error: a\n  b"
    assert render_error(SpecError([])) == "della_bench: error: SpecError"


# ---- the wheel ----


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def succeed(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANGS)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_carries_the_hook_and_the_tasks_and_leaves_nothing_behind(tmp_path):
    succeed(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path))
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (record,) = (name for name in names if name.endswith(".dist-info/RECORD"))
        recorded = {line.partition(",")[0] for line in archive.read(record).decode().splitlines()}
    assert {"della_bench_autoload.pth", "della_bench_autoload.start", "della_bench/_autoload.py"} <= names
    assert "della_bench/tasks/gsm8k_cot_zeroshot_alpaca/gsm8k_cot_zeroshot_alpaca.yaml" in names
    assert "della_bench/tasks/gsm8k_cot_zeroshot_alpaca/utils.py" in names
    assert {name.split("/")[0].partition("-")[0] for name in names} == {
        "della_bench",
        "della_bench_autoload.pth",
        "della_bench_autoload.start",
    }
    assert recorded == names

    installed = Environment(tmp_path / "environment")
    pip = (sys.executable, "-m", "pip", "--python", str(installed.python))
    before = files(tmp_path / "environment")
    succeed(*pip, "install", "--no-deps", "--no-index", str(wheel))
    installed.add_lm_eval()
    installed.see(LM_EVAL.parent)
    listed = installed.run("-m", "lm_eval", "ls", "tasks").stdout
    assert "|gsm8k_cot_zeroshot_alpaca " in listed
    assert str(installed.site / "della_bench" / "tasks") in listed

    (installed.site / "_paths.pth").unlink()
    shutil.rmtree(installed.site / "lm_eval")
    succeed(*pip, "uninstall", "--yes", "della-bench")
    assert files(tmp_path / "environment") == before
