"""alpaca_eval's annotator configurations: found, checked, and written out as they are run."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from della_bench.errors import JudgeError
from della_bench.jsonfiles import write_whole
from della_bench.judging.alpaca.process import installed_folder
from della_bench.judging.json_types import JsonObject, as_object
from della_bench.suggest import nearest

__all__ = ["LENGTH_CONTROLLED", "WIN_RATE", "Annotator", "load_annotator", "write_annotator"]

WIN_RATE = "win_rate"
LENGTH_CONTROLLED = "length_controlled_winrate"

# AlpacaEval 2: its annotators are read by log probability, its metric and its baseline are other ones. All else is
# compared as AlpacaEval 1 was.
_SECOND = "weighted_alpaca_eval"

_KEYS = {
    "prompt_template",
    "fn_completion_parser",
    "completion_parser_kwargs",
    "fn_completions",
    "completions_kwargs",
    "completion_key",
    "batch_size",
    "is_shuffle",
    "is_randomize_output_order",
    "processors_to_kwargs",
    "pretty_name",
    "link",
}
# Arguments that decide where a request goes, or that need a tokenizer of the model's.
_REFUSED = {
    "client_kwargs": "name the server as `base_url`",
    "client_config_path": "name the server as `base_url`",
    "openai_api_keys": "keys come from the environment",
    "openai_organization_ids": "the organisation comes from the environment",
    "openai_api_base": "name the server as `base_url`",
    "tokens_to_favor": "write them out as logit_bias",
    "tokens_to_avoid": "write them out as logit_bias",
}


@dataclass(frozen=True)
class Annotator:
    """One annotator: its name, the file it is from, its configuration without the prompt, and the prompt itself."""

    name: str
    source: Path
    config: JsonObject
    prompt: str

    @property
    def model(self) -> str:
        """The model that is asked for."""
        return str(as_object(self.config["completions_kwargs"])["model_name"])

    @property
    def metric(self) -> str:
        """The metric that AlpacaEval takes with this annotator."""
        return LENGTH_CONTROLLED if self.name.startswith(_SECOND) else WIN_RATE

    @property
    def baseline(self) -> str:
        """The generator of the baseline that AlpacaEval compares with under this annotator."""
        return "gpt4_1106_preview" if self.name.startswith(_SECOND) else "text_davinci_003"


def load_annotator(wanted: str, *, model: str | None = None, alias: bool = False) -> Annotator:
    """Return the annotator that alpaca_eval ships under the name `wanted`, or the one in a folder or YAML file.

    `model` takes the place of the model that the configuration names, and then stands in the annotator's name too: it
    is another judge, unless `alias`: the same model under another name (a deployment's).

    Raises JudgeError that names the file and every fault: no such annotator, a configuration that alpaca_eval does not
    take, or one that asks other than by chat requests to an OpenAI-compatible server.
    """
    shipped = installed_folder() / "evaluators_configs"
    path = _find(wanted, shipped)
    name, config = _single_entry(path)
    arguments = dict(as_object(config.get("completions_kwargs")))
    config = {**config, "completions_kwargs": arguments}
    if model is not None and model != arguments.get("model_name"):
        arguments["model_name"] = model
        if not alias:
            name += "-" + re.sub(r"[^\w.+-]+", "_", model).strip("_")
    faults = _faults(config)
    prompt = _prompt(config.pop("prompt_template", None), path, shipped, faults)
    if faults:
        raise JudgeError("\n".join(f"{path}: {name}: {fault}" for fault in faults), exit_code=2)
    return Annotator(name, path, config, prompt)


def write_annotator(annotator: Annotator, folder: Path) -> Path:
    """Write the configuration and the prompt below `folder`, as alpaca_eval reads them, and return `folder`."""
    import yaml

    prompt = (folder / "prompt.txt").resolve()
    write_whole(prompt, annotator.prompt)
    entry = {"prompt_template": str(prompt), **annotator.config}
    write_whole(folder / "configs.yaml", yaml.safe_dump({annotator.name: entry}, allow_unicode=True, sort_keys=False))
    return folder


def _find(wanted: str, shipped: Path) -> Path:
    path = Path(wanted).expanduser()
    if "/" not in wanted and (shipped / wanted / "configs.yaml").is_file():
        return shipped / wanted / "configs.yaml"
    if path.is_dir():
        path = path / "configs.yaml"
    if path.is_file():
        return path.resolve()
    names = sorted(folder.name for folder in shipped.iterdir() if (folder / "configs.yaml").is_file())
    message = f"no annotator {wanted!r}: no file, no folder with configs.yaml, and none that alpaca_eval ships"
    raise JudgeError(message + nearest(wanted, names), exit_code=2)


def _single_entry(path: Path) -> tuple[str, JsonObject]:
    """Return the one annotator of a configuration file; raises JudgeError where it holds none or a pool of them."""
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise JudgeError(f"{path}: cannot be read as YAML: {' '.join(str(error).split())}", exit_code=2) from error
    if not isinstance(value, dict) or not value or not all(isinstance(each, dict) for each in value.values()):
        raise JudgeError(f"{path}: expected a table of one annotator's name and its configuration", exit_code=2)
    if len(value) > 1:
        names = ", ".join(map(str, value))
        raise JudgeError(f"{path}: one annotator at a time is judged with, and this is a pool: {names}", exit_code=2)
    ((name, config),) = value.items()
    return str(name), dict(config)


def _faults(config: JsonObject) -> list[str]:
    """Return what is wrong with a configuration, a sentence each."""
    faults = [f"unknown key {key!r} (alpaca_eval knows: {', '.join(sorted(_KEYS))})" for key in config.keys() - _KEYS]
    asks = config.get("fn_completions", "openai_completions")
    if asks != "openai_completions":
        faults.append(
            f"fn_completions is {asks!r}, and only OpenAI-compatible servers are asked: take 'openai_completions' "
            "with the name under which the server serves the model, and name the server as `base_url`"
        )
    arguments = as_object(config["completions_kwargs"])
    if not isinstance(arguments.get("model_name"), str):
        faults.append("completions_kwargs has no model_name")
    faults += [f"{key} is not taken: {_REFUSED[key]}" for key in arguments if key in _REFUSED]
    return sorted(faults)


def _prompt(value: object, path: Path, shipped: Path, faults: list[str]) -> str:
    """Return the prompt's text: its path is relative to the folder above the configuration's, as alpaca_eval has it."""
    if not isinstance(value, str):
        faults.append("no prompt_template")
        return ""
    tried = [path.parent.parent / value, path.parent / value, shipped / value]
    prompt_file = next((each for each in tried if each.is_file()), None)
    if prompt_file is None:
        faults.append(f"prompt_template {value!r} is no file (tried: {', '.join(map(str, tried))})")
        return ""
    text = prompt_file.read_text(encoding="utf-8")
    if not (text.strip().startswith("<|im_start|>") and text.strip().endswith("<|im_end|>")):
        faults.append(
            f"prompt_template {prompt_file} is not in ChatML: it must start with <|im_start|> and end with <|im_end|>"
        )
    absent = [each for each in ("{instruction}", "{output_1}", "{output_2}") if each not in text]
    if absent:
        faults.append(f"prompt_template {prompt_file} has no {' and no '.join(absent)}")
    return text
