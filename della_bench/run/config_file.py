"""A run's settings in a YAML file: lm-eval's keys where it has them, and benchmarks with settings of their own.

    benchmarks:
      - zoo_chat
      - arc_challenge: {num_fewshot: 25}
      - gsm8k: {gen_kwargs: {max_gen_toks: 200}}
    limit: 100
    apply_chat_template: true
    device: cpu

A key stands for the option of its name, and what the command line says wins over it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from della_bench.run.settings import SETTINGS, checked_settings
from della_bench.spec.files import load_yaml
from della_bench.suggest import nearest

__all__ = ["ConfigFile", "read_config"]


@dataclass(frozen=True)
class ConfigFile:
    """What a file says: settings of all benchmarks, and by benchmark of one; options of the command; and all faults."""

    settings: Mapping[str, Any]
    by_benchmark: Mapping[str, Mapping[str, Any]]
    options: Mapping[str, Any]
    faults: tuple[str, ...]


def read_config(path: Path) -> ConfigFile:
    """Return what a file says. What is wrong with it is in `faults`, one for each."""
    try:
        value = load_yaml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        return ConfigFile({}, {}, {}, (f"{path}: cannot be read: {' '.join(str(error).split())}",))
    if not isinstance(value, dict):
        return ConfigFile({}, {}, {}, (f"{path}: settings are names with values, got {type(value).__name__}",))
    place = f"{path}: "
    settings, faults = checked_settings({str(name): each for name, each in value.items() if name in SETTINGS}, place)
    options: dict[str, Any] = {}
    by_benchmark: dict[str, Mapping[str, Any]] = {}
    for name, each in value.items():
        if name == "benchmarks":
            by_benchmark, more = _benchmarks(each, place)
            options["benchmarks"] = ",".join(by_benchmark)
            faults += more
        elif name in _OPTIONS:
            if _OPTIONS[name].is_it(each):
                options[name] = _OPTIONS[name].as_option(each)
            else:
                faults.append(f"{place}{name}={each}: {_OPTIONS[name].what}")
        elif name in _ELSEWHERE:
            faults.append(f"{place}{name}: {_ELSEWHERE[name]}")
        elif name not in SETTINGS:
            valid = sorted({*SETTINGS, *_OPTIONS, "benchmarks"})
            faults.append(
                f"{place}{name}: neither lm-eval nor `della-bench run` has such a key{nearest(str(name), valid)}"
            )
    own = {name: each for name, each in by_benchmark.items() if each}
    return ConfigFile(settings, own, options, tuple(faults))


def _benchmarks(value: object, place: str) -> tuple[dict[str, Mapping[str, Any]], list[str]]:
    """Return the benchmarks in order, each with its own settings."""
    entries = [name.strip() for name in value.split(",")] if isinstance(value, str) else value
    if not isinstance(entries, list) or not entries:
        return {}, [f"{place}benchmarks: a list of names, or of names with settings"]
    out: dict[str, Mapping[str, Any]] = {}
    faults: list[str] = []
    for entry in entries:
        pairs = entry.items() if isinstance(entry, dict) else [(entry, None)]
        for name, settings in pairs:
            if not isinstance(name, str) or not isinstance(settings, (dict, type(None))):
                faults.append(f"{place}benchmarks: a name, or a name with settings, got {entry!r}")
                continue
            if name in out:
                faults.append(f"{place}benchmarks: {name} stands there twice")
            asked = {str(key): _of_one(name, str(key), each) for key, each in (settings or {}).items()}
            whole = [key for key in asked if key in _OPTIONS]
            faults += [f"{place}{name}: {key}: of the whole run, not of one benchmark" for key in whole]
            out[name], more = checked_settings(
                {key: asked[key] for key in asked if key not in whole}, f"{place}{name}: "
            )
            faults += more
    return out, faults


def _of_one(benchmark: str, setting: str, value: object) -> object:
    """Return a setting of one benchmark as it stands for all: its samples need no name."""
    return {benchmark: value} if setting == "samples" and isinstance(value, list) else value


@dataclass(frozen=True)
class _Option:
    """A key that stands for an option of the command: what its value must be, and the option's value."""

    what: str
    is_it: Callable[[object], bool]
    as_option: Callable[[Any], Any] = lambda value: value


_TEXT = _Option("a text", lambda value: isinstance(value, str))
_FLAG = _Option("true or false", lambda value: isinstance(value, bool))
_SIZE = _Option("a number from 1 on", lambda value: type(value) is int and value > 0)
_DOLLARS = _Option("US dollars, such as 2.50", lambda value: type(value) in (int, float, str), str)


def _pairs(value: Mapping[str, object] | str) -> str:
    return value if isinstance(value, str) else ",".join(f"{name}={each}" for name, each in value.items())


_OPTIONS: Mapping[str, _Option] = {
    # lm-eval's
    "batch_size": _Option("a number from 1 on, auto, or auto:N", lambda value: type(value) in (int, str), str),
    "max_batch_size": _SIZE,
    "device": _TEXT,
    "model_args": _Option("names with values", lambda value: isinstance(value, (dict, str)), _pairs),
    "include_path": _TEXT,
    "confirm_run_unsafe_code": _FLAG,
    # of the command
    "out": _TEXT,
    "engine": _TEXT,
    "with_base": _FLAG,
    "with_experts": _FLAG,
    "judge": _TEXT,
    "annotator": _TEXT,
    "max_cost": _DOLLARS,
    "max_cost_each": _DOLLARS,
    "track": _TEXT,
    "track_project": _TEXT,
}
# Keys of lm-eval that mean nothing here, with what to do instead.
_ELSEWHERE = {
    "model": "the models are the specs on the command line",
    "tasks": "write benchmarks",
    "output_path": "write out",
    "log_samples": "a run always logs them",
    "use_cache": "a run goes on where it was without a cache",
    "write_out": "an option of the command line alone: --write-out",
    "trust_remote_code": "write model_args: {trust_remote_code: true}",
    "wandb_args": "write track: wandb",
    "trackio_args": "write track: trackio",
}
