"""Numbers in files that are neither lm-eval's nor ours: alpaca_eval's, bigcode's, and the DELLA authors' judge's.

    <annotator>/annotations.json    alpaca_eval's preferences, one row an instruction and model
    <model>_eval_metrics.json       bigcode-evaluation-harness' metrics, as the authors call the file
    <answers>_gpt4_labelled.csv     the authors' GSM8K judge, one row a problem
    scores/                         our own scores of answers that no run of lm-eval lies beside

They say no more of a model than its name: that of the file, or the one in the rows. Where lm-eval's run of a checkpoint
of that name, or the samples that were judged, are in the table, the numbers are that model's.
"""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from della_bench.errors import DataError
from della_bench.jsonfiles import USERS_FILE, read_json
from della_bench.results.evaluation import Evaluation, ReportedNumber
from della_bench.results.identity import Identity
from della_bench.results.logged import score_of_values
from della_bench.results.schema import SCHEMA, Score, Scorer, items_path, read_score
from della_bench.results.stats import wilson
from della_bench.results.table import CellSource

__all__ = ["foreign_evaluations", "foreign_scores", "model_in_name"]

_METRICS, _LABELLED = "_eval_metrics.json", "_gpt4_labelled.csv"
_LABELS = {"positive": 1.0, "negative": 0.0}
# What the authors' scripts put around a model's name: how many problems and which dtype, lm-eval's arguments and task.
# The judge's script takes ".json" out of "alpaca.jsonl", which leaves an l.
_AROUND = re.compile(r"(?:.*(?:__|=))?(?P<name>.+?)(?:_gsm8k_cot_zeroshot_alpacal?)?(?:_full)?(?:_32)?(?:\.jsonl?)?")
_METHOD = re.compile(
    r"(?:LM_math_code|LM_math|LM_code|math_code|LM|math|code|Coder)_(?:\d+_)?(?P<method>[a-z][a-z_]*)"
    r"(?:_-?[\d.]+){4}(?:_norescale)?"
)
_MBPP = 500


def foreign_evaluations(folder: Path, names: Sequence[str], faults: list[str]) -> Iterator[Evaluation]:
    """Yield what the files of a folder say of models; what cannot be read is appended to `faults`."""
    readers = {_METRICS: _of_bigcode, _LABELLED: _of_labels}
    for name in names:
        reader = next((reader for ending, reader in readers.items() if name.endswith(ending)), None)
        if name == "annotations.json":
            reader = _of_annotations
        if reader is not None:
            try:
                yield from reader(folder / name)
            except DataError as error:
                faults.append(f"{error}; left out")


def foreign_scores(folder: Path, scores: Sequence[Path], faults: list[str]) -> Iterator[Evaluation]:
    """Yield our scores of answers that lie in a folder without a run of lm-eval."""
    for path in scores:
        try:
            score = read_score(path)
        except DataError as error:
            faults.append(f"{error}; left out")
            continue
        answers = folder / Path(str(score["detail"].get("samples", ""))).name
        if not answers.is_file():
            faults.append(f"{path}: half written: no results of lm-eval, and no answers beside it; left out")
            continue
        items = items_path(folder, score["benchmark"], path.name.removesuffix(".json").partition(".")[2])
        source = CellSource(folder=folder, score=path, items=items if items.is_file() else None)
        yield _evaluation(answers, model_in_name(answers.name), score, source)


def model_in_name(name: str) -> str:
    """Return the model's name in that of a file of the authors' scripts: without what they put around it."""
    match = _AROUND.fullmatch(name)
    return match["name"] if match else name


def _evaluation(path: Path, model: str, score: Score, source: CellSource) -> Evaluation:
    method = _METHOD.fullmatch(model)
    who = Identity(
        name=model,
        method=method["method"] if method else "",
        spec="",
        fingerprint=hashlib.sha256(f"known by name: {model}".encode()).hexdigest(),
        engine="",
        by_name=True,
    )
    date = path.stat().st_mtime
    count = score["n"] + score["unscored"]
    one = ReportedNumber(score["benchmark"], score["metric"], score["scorer"], count, date, source, score=score)
    return Evaluation(who, path, {}, date, (one,))


def _of_annotations(path: Path) -> Iterator[Evaluation]:
    """Yield the win rate of each model in alpaca_eval's annotations: draws count half, what has none is unscored."""
    rows = read_json(path)
    keys = {"instruction", "generator_2", "preference"}
    if not isinstance(rows, list) or not all(isinstance(row, dict) and keys <= row.keys() for row in rows):
        raise DataError(f"{path}: no annotations of alpaca_eval", exit_code=USERS_FILE)
    by_model: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_model.setdefault(str(row["generator_2"]), []).append(row)
    for model, own in by_model.items():
        if repeated := len(own) - len({str(row["instruction"]) for row in own}):
            message = f"{path}: {repeated} rows of {model} are of an instruction that another row of it is of, too"
            raise DataError(f"{message}: its win rate would count some twice", exit_code=USERS_FILE)
    for model, own in by_model.items():
        annotator = str(own[0].get("annotator") or path.parent.name)
        values = [_preference(path, row["preference"]) for row in own]
        scorer = Scorer(name=annotator, version="alpaca_eval", model=None)
        score = _score("alpaca_eval", "win_rate", scorer, values)
        yield _evaluation(path, model, score, CellSource(folder=path.parent))


def _preference(path: Path, value: object) -> float | None:
    """Return a preference as a share: 1 is the baseline, 2 the model, 0 and 1.5 a draw, nothing or NaN unscored."""
    if value is None or value != value:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value == 0 or 1 <= value <= 2):
        raise DataError(f"{path}: preference {value!r}: expected 0, or 1 to 2", exit_code=USERS_FILE)
    return 0.5 if value == 0 else float(value) - 1


def _of_bigcode(path: Path) -> Iterator[Evaluation]:
    """Yield pass@1 out of bigcode's metrics. Raises DataError where it counts problems as wrong that nobody asked."""
    value = read_json(path)
    found = value.get("mbpp") if isinstance(value, dict) else None
    share = found.get("pass@1") if isinstance(found, dict) else None
    if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share <= 1:
        raise DataError(f"{path}: no metrics of bigcode's harness for mbpp (mbpp, pass@1)", exit_code=USERS_FILE)
    config = value.get("config")
    config = config if isinstance(config, dict) else {}
    limit = config.get("limit")
    n = limit if isinstance(limit, int) and limit else _MBPP
    answers = _generations(path, config.get("load_generations_path"))
    asked = n if answers is None else sum(bool(each) for each in answers)
    if asked <= n // 2:
        message = (
            f"{path}: pass@1 over {n} problems, and {asked} of them have an answer: a partial run, whose others count "
            f"as wrong; score the answers with: della-bench score mbpp {config.get('load_generations_path')}"
        )
        raise DataError(message, exit_code=USERS_FILE)
    low, high = wilson(round(share * n), n)
    score = Score(
        schema=SCHEMA,
        benchmark="mbpp",
        metric="pass@1",
        value=100 * share,
        interval=[100 * low, 100 * high],
        n=n,
        unscored=0,
        scorer=Scorer(name="bigcode", version="bigcode-evaluation-harness", model=None),
        detail={},
    )
    yield _evaluation(path, model_in_name(path.name.removesuffix(_METRICS)), score, CellSource(folder=path.parent))


def _generations(metrics: Path, named: object) -> list[Any] | None:
    """Return the answers that metrics were made from: where they say, seen from any folder above; else None."""
    if not isinstance(named, str):
        return None
    for start in (Path(), *metrics.resolve().parents):
        path = start / named
        if path.is_file():
            value = read_json(path)
            return value if isinstance(value, list) else None
    return None


def _of_labels(path: Path) -> Iterator[Evaluation]:
    """Yield the accuracy of the authors' judge; what it could not annotate is unscored, which they leave out, too."""
    limit = csv.field_size_limit(1 << 30)
    try:
        with path.open(encoding="utf-8", newline="") as file:
            labels = [row.get("gpt4_annotation") for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read: {error}", exit_code=USERS_FILE) from error
    finally:
        csv.field_size_limit(limit)
    if not labels or None in labels:
        raise DataError(f"{path}: no labels of the authors' judge (gpt4_annotation)", exit_code=USERS_FILE)
    scorer = Scorer(name="authors_gpt4", version="authors", model="gpt-4")
    score = _score("gsm8k", "accuracy", scorer, [_LABELS.get(str(label)) for label in labels])
    name = path.name.removesuffix(_LABELLED)
    yield _evaluation(path, model_in_name(name), score, CellSource(folder=path.parent))


def _score(benchmark: str, metric: str, scorer: Scorer, values: Sequence[float | None]) -> Score:
    score = score_of_values(benchmark, metric, scorer, values)
    if score["interval"] is not None:
        low, high = score["interval"]
        score["interval"] = [max(0.0, low), min(100.0, high)]
    return score
