from __future__ import annotations

import json
from typing import Any

import pytest

from della_bench.errors import DellaBenchError, JudgeError, UsageError
from della_bench.lock import folder_lock
from della_bench.results.leaderboard import build_table
from della_bench.results.schema import read_provenance, read_score, write_score
from della_bench.run import evaluator, preflight
from della_bench.run import steps as module
from della_bench.run.engine import Engine
from della_bench.run.evaluation import evaluate
from della_bench.run.options import Options
from della_bench.run.provenance import package_versions
from della_bench.run.runner import Runner
from della_bench.run.scorer import Scorer
from della_bench.run.scorers import score_by_task
from della_bench.run.settings import SETTINGS, EvalSettings
from della_bench.run.specs import folder_name
from della_bench.run.tasks import BrokenTasksError
from della_bench.run.watching import Watcher
from della_bench.spec import MergeSpec
from tests import tiny
from tests.run.tasks import write_task

TIES = MergeSpec.parse("base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5,name=ties")
MEAN = MergeSpec.parse("base=zoo:base,experts=zoo:math+zoo:code,merge_method=task_arithmetic,name=ta,lambda=0.5")


TEMPLATE = (
    "{% for each in messages %}{{ each.role.upper() }}: {{ each.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@pytest.fixture(scope="module", autouse=True)
def memory(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DELLA_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("TQDM_DISABLE", "1")
        # lm-eval asks pip and the like about the machine after each evaluation, which takes longer than these do.
        patch.setattr("torch.utils.collect_env.get_pretty_env_info", lambda: "")
        yield


@pytest.fixture(scope="module")
def manager():
    from lm_eval.tasks import TaskManager

    from della_bench.resources import folder

    return TaskManager(include_path=str(folder("tasks")), include_defaults=False)


@pytest.fixture
def asked(monkeypatch):
    """What was really loaded and evaluated, in order."""
    done: list[tuple[str, str | None]] = []
    original = Engine.load

    def load(self, spec):
        done.append(("load", spec.name))
        return original(self, spec)

    monkeypatch.setattr(Engine, "load", load)

    def watched(model, spec, task, *args, **options):
        done.append((task.task_name, spec.name))
        return evaluate(model, spec, task, *args, **options)

    monkeypatch.setattr(evaluator, "evaluate", watched)
    return done


def go(out, manager, specs=(TIES,), benchmarks=("zoo_math",), **options):
    lines: list[str] = []
    arguments = {"batch_size": 4, "device": "cpu"}
    settings = EvalSettings().changed({"limit": 4, **{each: options.pop(each) for each in SETTINGS if each in options}})
    made = Options(
        **{"out": out, "benchmarks": tuple(benchmarks), "arguments": arguments, "settings": settings, **options}
    )
    runner = Runner(made, lines.append, manager=manager)
    return runner.run(list(specs)), lines, runner


def test_a_run_loads_each_model_once_and_writes_all_that_a_row_needs(tmp_path, manager, asked):
    faults, lines, _ = go(tmp_path, manager, (TIES, MEAN), ("zoo_math", "zoo_chat"))
    assert faults == []
    assert asked == [("load", "ties"), ("zoo_math", "ties"), ("zoo_chat", "ties")] + [
        (what, "ta") for what in ("load", "zoo_math", "zoo_chat")
    ]
    folder = tmp_path / folder_name(TIES)
    assert MergeSpec.parse(str(folder / "spec.yaml")) == TIES
    known = read_provenance(folder / "provenance.json")
    assert (known["spec"], known["digest"], known["dtype"]) == (str(TIES), TIES.digest, "torch.bfloat16")
    assert {file["role"] for file in known["files"]} == {"base", "config", "expert 0", "expert 1", "tokenizer"}
    assert known["versions"].keys() >= {"python", "della_bench", "lm_eval", "torch", "transformers"}
    assert known["steps"].keys() == {"zoo_math (limit=4)", "zoo_chat (limit=4)"}
    score = read_score(folder / "scores" / "zoo_math.lm_eval-answer-is.json")
    assert score["n"] == 4
    row = next(row for row in build_table([tmp_path]).rows if row.name == "ties")
    assert row.fingerprint == known["fingerprint"]
    assert row.cells["zoo_math"].value == score["value"]
    assert f"{score['value']:.1f}" in lines[0]
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == [".lock"]


def test_what_is_done_is_not_done_again_unless_forced_or_asked_otherwise(tmp_path, manager, asked):
    go(tmp_path, manager)
    first, asked[:] = asked[:], []
    assert len(first) == 2
    faults, lines, _ = go(tmp_path, manager)
    assert (faults, asked) == ([], [])
    assert lines[0].startswith("ties: zoo_math")
    go(tmp_path, manager, force=True)
    assert asked == first
    asked.clear()
    go(tmp_path, manager, limit=3)
    assert asked == first
    asked.clear()
    go(tmp_path, manager, benchmarks=("zoo_math", "zoo_chat"), limit=3)
    assert asked == [("load", "ties"), ("zoo_chat", "ties")]


def test_another_release_or_other_input_files_make_a_step_undone(tmp_path, manager, asked, monkeypatch):
    go(tmp_path, manager)
    asked.clear()
    newer = {**package_versions("hf"), "torch": "0.1"}
    monkeypatch.setattr("della_bench.run.folder.package_versions", lambda engine: newer)
    go(tmp_path, manager)
    assert len(asked) == 2
    monkeypatch.undo()
    monkeypatch.setattr("della_bench.merge.fingerprint.fingerprint", lambda spec, files: "0" * 64)
    plan = list(go(tmp_path, manager, specs=())[2].plan([TIES]))
    assert [step.done for step in plan] == [False, False]


def test_another_setting_is_another_evaluation_beside_the_first(tmp_path, manager, asked):
    for settings in ({}, {"gen_kwargs": {"max_gen_toks": 3}}, {"system_instruction": "Be brief."}, {"seed": (1,) * 4}):
        for times in (2, 0):
            assert go(tmp_path, manager, **settings)[0] == []
            assert len(asked) == times, settings
            asked.clear()
    folder = tmp_path / folder_name(TIES)
    assert len(list(folder.glob("results_*.json"))) == 4
    scores = [read_score(path) for path in (folder / "scores").glob("zoo_math.*.json")]
    samples = {score["detail"]["samples"] for score in scores}
    assert len(scores) == len(samples) == 4
    cells = build_table([tmp_path]).rows[0].cells
    assert {name.partition(" (")[0] for name in cells} == {"zoo_math"}
    assert any("max_gen_toks=3" in name for name in cells)
    assert len(cells) == 4
    assert any("system prompt" in name for name in cells)


@pytest.fixture
def kept_engine(monkeypatch):
    """One loaded model for all runs of a test: another run need not merge what lies there already."""
    loaded: list[Any] = []
    original = Engine.load

    def load(self, spec):
        if not loaded:
            loaded.append(original(self, spec))
        return loaded[0]

    monkeypatch.setattr(Engine, "load", load)
    monkeypatch.setattr(Engine, "close", lambda self: None)


def test_each_setting_changed_alone_gives_another_column(tmp_path, manager, kept_engine):
    templated = tiny.save(tiny.llama(), tmp_path / "templated", tiny.tokenizer(chat_template=TEMPLATE))
    spec = MergeSpec.parse(f"base=zoo:base,experts=zoo:math,merge_method=linear,chat_template={templated},name=one")
    path = write_task(tmp_path / "sums.yaml", num_fewshot=None, fewshot_split="test")
    ways: tuple[dict[str, Any], ...] = (
        {},
        {"num_fewshot": 1},
        {"gen_kwargs": {"max_gen_toks": 2}},
        {"system_instruction": "Be brief."},
        {"apply_chat_template": True},
        {"apply_chat_template": True, "num_fewshot": 1},
        {"apply_chat_template": True, "num_fewshot": 1, "fewshot_as_multiturn": False},
        {"samples": {"sums": (0, 1, 3)}},
        {"seed": (1,) * 4},
        {"metadata": {"length": 3}},
    )
    for number, way in enumerate(ways, start=1):
        faults, _, _ = go(tmp_path / "runs", manager, (spec,), (str(path),), limit=None, **way)
        assert faults == []
        (row,) = build_table([tmp_path / "runs"]).rows
        assert len(row.cells) == number, way
    assert sum("chat template: that of" in line for line in go(tmp_path / "other", manager, (spec,), **ways[4])[1]) == 1
    prompts = [next(path.open()) for path in (tmp_path / "runs").glob("*/samples_*")]
    assert sum("USER: " in json.loads(each)["arguments"]["gen_args_0"]["arg_0"] for each in prompts) == 3
    places = list((tmp_path / "runs").glob("*/scores/sums.*.json"))
    assert len({read_score(each)["detail"]["samples"] for each in places}) == len(places) == len(ways)


def test_a_template_is_asked_through_by_its_name(tmp_path, manager, kept_engine):
    both = {"default": TEMPLATE, "loud": TEMPLATE.replace("USER", "").replace("ASSISTANT:", "ANSWER!")}
    templated = tiny.save(tiny.llama(), tmp_path / "templated", tiny.tokenizer(chat_template=both))  # type: ignore[arg-type]
    spec = MergeSpec.parse(f"base=zoo:base,experts=zoo:math,merge_method=linear,chat_template={templated},name=one")
    for number, (wanted, end) in enumerate(((True, "ASSISTANT:"), ("loud", "ANSWER!"), (True, "ASSISTANT:"))):
        go(tmp_path / f"{number}", manager, (spec,), limit=1, apply_chat_template=wanted)
        (row,) = (json.loads(line) for line in next((tmp_path / f"{number}").glob("*/samples_*")).open())
        assert row["arguments"]["gen_args_0"]["arg_0"].endswith(end)


def test_a_template_that_no_tokenizer_has_and_other_faults_are_told_at_once_before_any_weight_is_read(
    tmp_path, manager, asked
):
    path = write_task(tmp_path / "bare.yaml", num_fewshot=None)
    wrong = {"apply_chat_template": True, "num_fewshot": 2, "gen_kwargs": {"max_gen_tok": 3}}
    with pytest.raises(UsageError) as caught:
        go(tmp_path / "runs", manager, (TIES, MEAN), ("zoo_math", str(path)), **wrong)
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("gen_kwargs: max_gen_tok: no generation argument; did you mean 'max_gen_toks'")
    assert lines[1].startswith("apply_chat_template: the tokenizer of zoo:base has no chat template")
    assert lines[2].startswith("bare: num_fewshot=2: task bare has no examples")
    assert len(lines) == 3
    assert caught.value.exit_code == 2
    assert asked == []
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"apply_chat_template": True}, "the tokenizer of zoo:base has no chat template"),
        ({"samples": {"zoo_math": [0, 900]}, "limit": None}, "900 is none"),
        ({"arguments": {"batch_size": 4, "foo": 1}}, "foo"),
    ],
)
def test_a_used_folder_hides_nothing_that_is_wrong_with_other_settings(tmp_path, manager, asked, changed, told):
    go(tmp_path, manager)
    asked.clear()
    with pytest.raises(DellaBenchError, match=told) as caught:
        go(tmp_path, manager, **changed)
    assert caught.value.exit_code == 2
    assert asked == []


def test_a_judge_that_cannot_be_had_is_told_though_all_is_evaluated(tmp_path, manager, monkeypatch, asked):
    go(tmp_path, manager)

    def without_a_key(options):
        raise UsageError("no key")

    judge = Scorer("judge", lambda *_: [], judge=lambda options: "gpt", check=without_a_key)
    for place in (preflight, module):
        monkeypatch.setattr(place, "scorers_of", lambda row: [judge])
    with pytest.raises(UsageError, match="zoo_math: no key"):
        go(tmp_path, manager)


def test_answers_that_are_only_logged_are_not_scored_and_are_no_number(tmp_path, manager, asked):
    _, lines, runner = go(tmp_path, manager, predict_only=True)
    assert lines == ["ties: nothing scored"]
    assert [step.what for step in runner.plan([TIES])] == ["evaluate"]
    assert not list(tmp_path.glob("*/scores/*.json"))
    assert build_table([tmp_path]).benchmarks == ()
    go(tmp_path, manager)
    assert len(asked) == 4
    assert len(build_table([tmp_path]).rows[0].cells) == 1


def test_a_benchmarks_own_settings_go_before_those_of_all(tmp_path, manager):
    own = {"zoo_chat": {"samples": {"zoo_chat": (1, 5)}, "limit": None}}
    assert go(tmp_path, manager, benchmarks=("zoo_math", "zoo_chat"), by_benchmark=own)[0] == []
    asked = {
        name: [json.loads(line)["doc_id"] for line in next(tmp_path.glob(f"*/samples_zoo_{name}_*")).open()]
        for name in ("math", "chat")
    }
    assert asked == {"math": [0, 1, 2, 3], "chat": [1, 5]}


def test_what_a_release_before_these_settings_evaluated_counts_as_done_under_the_defaults(tmp_path, manager, asked):
    go(tmp_path, manager)
    folder = tmp_path / folder_name(TIES)
    known = json.loads((folder / "provenance.json").read_text())
    (step,) = known["steps"].values()
    (folder / "provenance.json").write_text(json.dumps({**known, "steps": {"zoo_math": step}}))
    run = json.loads(next(folder.glob("results_*")).read_text())["config"]["della_bench"]["run"]
    assert run.keys() == {"fingerprint", "engine", "arguments", "versions", "limit", "seeds"}
    asked.clear()
    before = (folder / "scores" / "zoo_math.lm_eval-answer-is.json").stat().st_mtime_ns
    assert go(tmp_path, manager)[0] == []
    assert asked == []
    assert (folder / "scores" / "zoo_math.lm_eval-answer-is.json").stat().st_mtime_ns == before


def test_a_lost_score_is_made_again_without_the_model(tmp_path, manager, asked):
    go(tmp_path, manager)
    asked.clear()
    path = tmp_path / folder_name(TIES) / "scores" / "zoo_math.lm_eval-answer-is.json"
    before = path.read_bytes()
    for damage in (path.unlink, lambda: path.write_text("{"), (path.parent.parent / "provenance.json").unlink):
        damage()
        go(tmp_path, manager)
        assert path.read_bytes() == before
    assert asked == []


def test_a_torn_results_file_is_evaluated_again(tmp_path, manager, asked):
    go(tmp_path, manager)
    asked.clear()
    results = next((tmp_path / folder_name(TIES)).glob("results_*"))
    results.write_text(results.read_text()[:1000])
    go(tmp_path, manager)
    assert ("zoo_math", "ties") in asked


def test_a_torn_samples_file_is_evaluated_again(tmp_path, manager, asked):
    go(tmp_path, manager)
    asked.clear()
    samples = next((tmp_path / folder_name(TIES)).glob("samples_zoo_math_*"))
    samples.write_text("".join(samples.read_text().splitlines(keepends=True)[:-1]))
    go(tmp_path, manager)
    assert ("zoo_math", "ties") in asked


def test_a_plan_says_what_is_done_and_writes_nothing(tmp_path, manager):
    _, _, made = go(tmp_path, manager, specs=())
    plan = list(made.plan([TIES, MEAN]))
    assert [(step.spec.name, step.what, step.done) for step in plan] == [
        (name, what, False) for name in ("ties", "ta") for what in ("evaluate", "lm_eval")
    ]
    assert list(tmp_path.iterdir()) == []
    go(tmp_path, manager)
    assert [step.done for step in made.plan([TIES, MEAN])] == [True, True, False, False]


def test_a_folder_in_use_is_left_for_the_end(tmp_path, manager, asked, monkeypatch):
    held = folder_lock(tmp_path / folder_name(TIES), wait=False)
    assert held.__enter__()

    def release(model, spec, *args, **options):
        if spec is MEAN:
            held.__exit__(None, None, None)
        return evaluate(model, spec, *args, **options)

    monkeypatch.setattr(evaluator, "evaluate", release)
    _, lines, _ = go(tmp_path, manager, (TIES, MEAN))
    assert [line.partition(":")[0] for line in lines] == ["ta", "ties", "ties"]
    assert "another process works on it" in lines[1]


def test_a_scorer_that_fails_stops_nothing_else_and_is_told_at_the_end(tmp_path, manager, monkeypatch):
    def failing(evaluated, out, options):
        raise JudgeError("no network")

    steps = [Scorer("lm_eval", score_by_task), Scorer("judge", failing)]
    monkeypatch.setattr(module, "scorers_of", lambda row: steps)
    faults, lines, _ = go(tmp_path, manager, (TIES, MEAN))
    assert faults == ["zoo_math: no network (ties, ta)"]  # once, not once a model
    assert len(build_table([tmp_path]).rows) == 2
    assert lines[0].endswith("zoo_math (judge) unscored")
    assert lines[0].startswith("ties: zoo_math (lm_eval")


def test_a_score_without_a_value_is_a_failure_and_is_asked_for_again(tmp_path, manager, monkeypatch):
    asked = []

    def nothing(evaluated, out, options):
        (score,) = score_by_task(evaluated, out, options)
        asked.append(score)
        unscored: Any = {**score, "value": None, "interval": None, "n": 0, "unscored": 4}
        write_score(out, unscored, score["detail"]["place"])
        return [{**unscored, "detail": {**score["detail"], "unscored_kinds": {"failed: status 500": 4}}}]

    monkeypatch.setattr(module, "scorers_of", lambda row: [Scorer("judge", nothing)])
    for count in (1, 2):
        faults, lines, _ = go(tmp_path, manager)
        assert faults == ["ties, zoo_math: lm_eval-answer-is could score nothing of 4 (4 failed: status 500)"]
        assert lines == ["ties: zoo_math (judge) unscored"]
        assert len(asked) == count


def test_a_watcher_is_told_of_every_step_and_of_what_is_done_within_it(tmp_path, manager):
    told: list[Any] = []
    work: set[tuple[str, int, int]] = set()

    class Recording(Watcher):
        def planned(self, steps):
            told.append(len(steps))

        def began(self, step):
            told.append(("began", step.spec.name, step.what))

        def ended(self, step, how):
            told.append((how.how, step.spec.name, step.what))

        def working(self, what, done, total, worker=""):
            work.add((what, done, total))

    options = Options(
        tmp_path, ("zoo_math",), arguments={"batch_size": 4, "device": "cpu"}, settings=EvalSettings(limit=4)
    )
    for how in ("done", "known"):
        told.clear()
        Runner(options, lambda line: None, watcher=Recording(), manager=manager).run([TIES, MEAN])
        steps = [(name, what) for name in ("ties", "ta") for what in ("evaluate", "lm_eval")]
        assert told == [4, *[(word, *step) for step in steps for word in ("began", how)]]
    assert ("answering", 4, 4) in work
    merged = {what: total for what, done, total in work if done == total and what.startswith("Merging")}
    assert merged.keys() == {"Merging by ties", "Merging by task_arithmetic"}  # the second is a remerge


def test_a_model_that_cannot_be_opened_is_told_and_the_others_run(tmp_path, manager):
    gone = MergeSpec.parse(f"base=zoo:base,experts={tmp_path / 'gone'},merge_method=linear,name=gone")
    faults, _, _ = go(tmp_path / "runs", manager, (gone, TIES))
    assert len(faults) == 1
    assert faults[0].startswith("gone: ")
    assert len(build_table([tmp_path / "runs"]).rows) == 1


def test_an_unknown_benchmark_is_an_error_with_the_nearest_name(tmp_path, manager):
    with pytest.raises(UsageError, match="neither a benchmark nor a task or group of lm-eval; did you mean 'zoo_math'"):
        go(tmp_path, manager, benchmarks=("zoo_maths",))


def test_programs_of_a_model_run_only_where_that_is_allowed(tmp_path, manager):
    with pytest.raises(UsageError, match="mbpp: runs programs that the model wrote"):
        go(tmp_path, manager, benchmarks=("mbpp",))


def test_results_name_the_spec_and_the_fingerprint_for_other_readers(tmp_path, manager):
    go(tmp_path, manager)
    value = json.loads(next((tmp_path / folder_name(TIES)).glob("results_*")).read_text())
    assert value["config"]["model"] == "della_merged"
    ours = value["config"]["della_bench"]
    assert ours["spec"] == str(TIES)
    known = read_provenance(tmp_path / folder_name(TIES) / "provenance.json")
    assert ours["model_fingerprint"] == known["fingerprint"]


def test_tasks_that_cannot_be_built_are_told_together_before_anything_is_merged_or_written(
    tmp_path, manager, asked, monkeypatch
):
    monkeypatch.setenv("DELLA_BENCH_DATA", str(tmp_path))  # an empty folder
    broken = write_task(tmp_path / "broken.yaml", doc_to_text="{{no_such_field}}")
    with pytest.raises(BrokenTasksError) as caught:
        go(tmp_path / "runs", manager, benchmarks=("zoo_math", "gsm8k", str(broken)))
    assert caught.value.exit_code == 2
    lines = str(caught.value).splitlines()
    assert lines[0].startswith("gsm8k: no data for gsm8k: DELLA_BENCH_DATA is set, but there is no file")
    assert lines[-1].startswith("broken: task broken cannot be built: UndefinedError:")
    assert asked == []
    assert not (tmp_path / "runs").exists()


def test_a_task_that_breaks_after_its_evaluation_ends_the_run_before_the_model_is_loaded(tmp_path, manager, asked):
    path = write_task(tmp_path / "own.yaml")
    go(tmp_path / "runs", manager, benchmarks=(str(path),))
    asked.clear()
    write_task(path, doc_to_text="{{no_such_field}}")
    with pytest.raises(BrokenTasksError, match="own: task own cannot be built"):
        go(tmp_path / "runs", manager, (TIES, MEAN), benchmarks=(str(path),))
    assert asked == []


def test_a_users_own_task_is_evaluated_again_when_its_file_has_changed(tmp_path, manager, asked):
    path = write_task(tmp_path / "own.yaml")
    for doc_to_text, times in (("{{question}}", 2), ("{{question}}", 0), ("What is {{question}}?", 2)):
        write_task(path, doc_to_text=doc_to_text)
        faults, lines, _ = go(tmp_path / "runs", manager, benchmarks=(str(path),))
        assert faults == []
        assert "own (lm_eval)" in lines[0]
        assert len(asked) == times
        asked.clear()


def test_a_built_task_gives_the_next_model_what_a_new_one_would(tmp_path, manager):
    go(tmp_path / "both", manager, (TIES, MEAN))
    go(tmp_path / "alone", manager, (MEAN,))
    both, alone = (
        [json.loads(line) for line in next((tmp_path / name / folder_name(MEAN)).glob("samples_*")).open()]
        for name in ("both", "alone")
    )
    assert both == alone


def test_machine_and_checkout_are_looked_at_once_and_git_says_nothing(tmp_path, manager, monkeypatch, capfd):
    looked = []

    def look() -> str:
        looked.append(1)
        return "a machine"

    monkeypatch.setattr("torch.utils.collect_env.get_pretty_env_info", look)
    monkeypatch.chdir(tmp_path)  # no checkout
    go(tmp_path / "runs", manager, (TIES, MEAN))
    assert looked == [1]
    for path in (tmp_path / "runs").glob("*/results_*"):
        assert json.loads(path.read_text())["pretty_env_info"] == "a machine"
    assert "not a git repository" not in capfd.readouterr().err


def test_what_breaks_inside_lm_eval_is_that_models_fault_and_the_others_are_evaluated(tmp_path, manager, monkeypatch):
    def broken(model, spec, *args, **options):
        if spec.name == "ties":
            raise AssertionError("an empty continuation")
        return evaluate(model, spec, *args, **options)

    monkeypatch.setattr(evaluator, "evaluate", broken)
    options = Options(tmp_path, ("zoo_math",), arguments={"device": "cpu"}, settings=EvalSettings(limit=2))
    faults = Runner(options, lambda line: None, manager=manager).run([TIES, MEAN])
    assert faults == ["ties, zoo_math: lm-eval failed: AssertionError: an empty continuation"]
    assert not list((tmp_path / folder_name(TIES)).glob("results_*"))
    assert list((tmp_path / folder_name(MEAN)).glob("results_*"))
