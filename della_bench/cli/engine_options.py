"""The options of every command that evaluates: tasks, the engine with its arguments, and who judges for how much."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from decimal import Decimal

    from della_bench.errors import Faults

__all__ = [
    "Annotator",
    "BatchSize",
    "Device",
    "Engine",
    "IncludePath",
    "Judge",
    "ModelArgs",
    "Unsafe",
    "dollars",
    "engine_arguments",
    "settle_output",
]

IncludePath = Annotated[
    Path | None,
    typer.Option("--include-path", metavar="DIR", help="Folder with more tasks of lm-eval; they come first."),
]
Engine = Annotated[
    str, typer.Option("--engine", help="hf (transformers) or vllm.", autocompletion=lambda: ["hf", "vllm"])
]
Device = Annotated[str | None, typer.Option("--device", help="Device, such as cuda:0 or cpu.")]
BatchSize = Annotated[str, typer.Option("--batch-size", help="Prompts at a time; a number or auto.")]
ModelArgs = Annotated[
    str | None,
    typer.Option("--model-args", metavar="KEY=VALUE,...", help="More arguments of lm-eval's model type."),
]
Judge = Annotated[str, typer.Option("--judge", metavar="NAME", help="Judge of gsm8k; exact asks no model.")]
Annotator = Annotated[str, typer.Option("--annotator", metavar="NAME", help="Judge of alpaca_eval.")]
Unsafe = Annotated[bool, typer.Option("--confirm-run-unsafe-code", help="Let benchmarks run the model's programs.")]


def settle_output() -> None:
    """Keep other packages' bars and remarks out of what is shown of the steps."""
    import logging
    import os

    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    logging.getLogger("lm_eval").setLevel(logging.ERROR)


def engine_arguments(
    text: str | None, device: str | None, batch_size: str, max_batch_size: int | None, faults: Faults
) -> dict[str, Any]:
    """Return the model type's arguments, read as lm-eval reads them, and add to `faults` what is wrong with them."""
    from della_bench.models.arguments import SPEC_NAMES, doubled_names
    from della_bench.spec.own_keys import own_key_names

    out: dict[str, Any] = {"batch_size": int(batch_size) if batch_size.isdecimal() else batch_size}
    if device is not None:
        out["device"] = device
    if max_batch_size is not None:
        out["max_batch_size"] = max_batch_size
        if not batch_size.startswith("auto"):
            faults.add(f"--max-batch-size {max_batch_size}: needs --batch-size auto, and that is {batch_size}")
    if text:
        from lm_eval.utils import simple_parse_args_string

        given = simple_parse_args_string(text)
        of_spec = SPEC_NAMES | own_key_names()
        wrong = [f"--model-args {name}=...: belongs to the spec" for name in given if name in of_spec]
        faults.add(*doubled_names(text), *wrong)
        out |= {name: value for name, value in given.items() if name not in of_spec}
    return out


def dollars(option: str, text: str | None) -> Decimal | None:
    """Return an option's US dollars. Raises UsageError that names the option."""
    from decimal import Decimal, InvalidOperation

    from della_bench.errors import UsageError

    if text is None:
        return None
    try:
        number = Decimal(text.removeprefix("$"))
    except InvalidOperation:
        number = Decimal(-1)
    if not number.is_finite() or number < 0:
        raise UsageError(f"{option} {text}: US dollars, such as 2.50")
    return number
