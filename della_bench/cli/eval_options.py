"""The options that are lm-eval's settings, as every command that evaluates has them; None is an option not given."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from della_bench.cli.judge.options import JudgeCommand

if TYPE_CHECKING:
    from della_bench.errors import Faults
    from della_bench.run.config_file import ConfigFile
    from della_bench.run.settings import EvalSettings

__all__ = [
    "ApplyChatTemplate",
    "EvalCommand",
    "FewshotAsMultiturn",
    "GenKwargs",
    "Limit",
    "MaxBatchSize",
    "Metadata",
    "NumFewshot",
    "PredictOnly",
    "Samples",
    "Seed",
    "SystemInstruction",
    "given_settings",
    "key_values",
    "layered_settings",
]

NumFewshot = Annotated[int | None, typer.Option("--num-fewshot", metavar="N", help="Examples before each question.")]
GenKwargs = Annotated[
    list[str] | None,
    typer.Option("--gen-kwargs", metavar="KEY=VALUE,...", help="Generation arguments, over the tasks' own."),
]
ApplyChatTemplate = Annotated[
    str | None,
    typer.Option("--apply-chat-template", metavar="[NAME]", help="Ask through the tokenizer's chat template."),
]
FewshotAsMultiturn = Annotated[
    str | None,
    typer.Option(
        "--fewshot-as-multiturn",
        metavar="[BOOL]",
        help="Examples as turns of the chat; so with a template, unless false.",
    ),
]
SystemInstruction = Annotated[
    str | None, typer.Option("--system-instruction", metavar="TEXT", help="System prompt before every question.")
]
MaxBatchSize = Annotated[
    int | None, typer.Option("--max-batch-size", metavar="N", help="Most prompts at a time where --batch-size is auto.")
]
Limit = Annotated[
    float | None,
    typer.Option("--limit", metavar="N", help="Only so many documents of each task; below 1, that share of them."),
]
Samples = Annotated[
    str | None,
    typer.Option(
        "--samples", metavar="JSON", help="Only these documents, from 0: '{\"TASK\": [0, 3]}', or such a file."
    ),
]
PredictOnly = Annotated[
    bool | None, typer.Option("--predict-only", help="Log the answers, and score nothing.", show_default=False)
]
Seed = Annotated[
    str | None,
    typer.Option(
        "--seed", metavar="N[,N,N,N]", help="Seeds of random, numpy, torch and the examples; lm-eval: 0,1234,1234,1234."
    ),
]
Metadata = Annotated[
    list[str] | None,
    typer.Option("--metadata", metavar="KEY=VALUE,...", help="Handed to tasks that ask for it; or a JSON object."),
]

_BOOLEANS = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
_OPTIONAL = ("--apply-chat-template", "--fewshot-as-multiturn")  # their value may be left out, as lm-eval has it


class EvalCommand(JudgeCommand):
    """A command with options whose value may be left out: they are true then."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Give these options their value, and let the library parse the rest."""
        full = []
        for word, behind in pairwise([*args, "-"]):
            bare = word in _OPTIONAL and (behind.startswith("-") or _is_spec(behind))
            full.append(f"{word}=true" if bare else word)
        return list(super().parse_args(ctx, full))


def given_settings(
    *,
    num_fewshot: int | None,
    gen_kwargs: Sequence[str] | None,
    apply_chat_template: str | None,
    fewshot_as_multiturn: str | None,
    system_instruction: str | None,
    limit: float | None,
    samples: str | None,
    predict_only: bool | None,
    seed: str | None,
    metadata: Sequence[str] | None,
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings that options give, for `checked_settings`, and what cannot be read of them."""
    readers: Mapping[str, Callable[[], object]] = {
        "num_fewshot": lambda: num_fewshot,
        "gen_kwargs": lambda: key_values(gen_kwargs) if gen_kwargs else None,
        "apply_chat_template": lambda: _word(apply_chat_template),
        "fewshot_as_multiturn": lambda: _word(fewshot_as_multiturn),
        "system_instruction": lambda: system_instruction,
        "limit": lambda: limit,
        "samples": lambda: None if samples is None else _samples(samples),
        "predict_only": lambda: predict_only,
        "seed": lambda: None if seed is None else [_seed(part.strip()) for part in seed.split(",")],
        "metadata": lambda: key_values(metadata) if metadata else None,
    }
    out: dict[str, Any] = {}
    faults = []
    for name, read in readers.items():
        try:
            value = read()
        except ValueError as error:
            faults.append(f"--{name.replace('_', '-')}: {error}")
        else:
            out |= {} if value is None else {name: value}
    return out, faults


def layered_settings(
    file: ConfigFile | None, given: Mapping[str, Any], faults: Faults
) -> tuple[EvalSettings, dict[str, Mapping[str, Any]]]:
    """Return the settings of all benchmarks, and by benchmark those of one: a file's, and over both what is given."""
    from della_bench.run.settings import EvalSettings, checked_settings

    values, wrong = checked_settings(given)
    settings = EvalSettings()
    own: dict[str, Mapping[str, Any]] = {}
    if file is not None:
        faults.add(*file.faults)
        settings = settings.changed(file.settings)
        over = {*values, *(("limit", "samples") if {"limit", "samples"} & values.keys() else ())}
        own = {name: {key: each[key] for key in each if key not in over} for name, each in file.by_benchmark.items()}
    faults.add(*wrong)
    return settings.changed(values), own


def key_values(texts: Sequence[str] | None) -> dict[str, Any]:
    """Return what `key=value,...` texts or JSON objects say, values read as lm-eval reads them.

    Raises ValueError for what is neither, and for a key given twice.
    """
    from lm_eval._cli.utils import key_val_to_dict, split_top_level

    out: dict[str, Any] = {}
    for text in texts or ():
        if text.lstrip().startswith("{"):
            parts = [_json(text)]
        else:
            parts = [key_val_to_dict(part) for part in split_top_level(text)]
        for part in parts:
            if doubled := sorted(out.keys() & part.keys()):
                raise ValueError(f"{doubled[0]}: given twice")
            out |= part
    return out


def _is_spec(word: str) -> bool:
    """Return whether a word behind an option is a merge, and not the option's value."""
    return "=" in word or word.endswith((".yaml", ".yml", "}"))


def _word(text: str | None) -> bool | str | None:
    return None if text is None else _BOOLEANS.get(text.lower(), text)


def _json(text: str) -> Mapping[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"{text}: not JSON: {error}") from None
    if not isinstance(value, dict):
        raise ValueError(f"a JSON object, got {type(value).__name__}")
    return value


def _samples(text: str) -> Mapping[str, Any]:
    if "{" in text:
        return _json(text)
    try:
        return _json(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"{text}: no JSON object, and no file that can be read: {error.strerror}") from None


def _seed(text: str) -> int | str | None:
    if text.lower() == "none":
        return None
    try:
        return int(text)
    except ValueError:
        return text  # what is allowed is said where settings are checked
