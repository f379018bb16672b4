"""A file with the key of a judge's server: the key alone, or JSON as the DELLA authors' judge reads it.

Their file has api_type (`azure` or `open_ai`), api_base, api_version, api_key, model_engine (the deployment) and
model_family. What is in it becomes the environment's variables of openai's client, for this process alone.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from della_bench.errors import JudgeError
from della_bench.suggest import nearest

__all__ = ["KeyFile", "use_key_file"]

_KEYS = ("api_type", "api_base", "api_version", "api_key", "model_engine", "model_family")
_AZURE = ("azure", "azure_ad")
_VARIABLES = {"api_base": "AZURE_OPENAI_ENDPOINT", "api_version": "OPENAI_API_VERSION"}


@dataclass(frozen=True)
class KeyFile:
    """Where a key file sends requests: to Azure, to the server at `base_url`, or to OpenAI; the model that it names."""

    azure: bool = False
    base_url: str | None = None
    model: str | None = None


def use_key_file(path: Path) -> KeyFile:
    """Put the key of a file into this process's environment, and return what else the file says.

    Raises JudgeError where it cannot be read or lacks something. No message holds what is in the file.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise JudgeError(f"{path}: cannot be read: {reason}", exit_code=2) from None
    if not text.startswith("{"):
        if not text or len(text.split()) != 1 or not text.isascii():
            raise JudgeError(
                f"{path}: no key: expected one word of ASCII, or JSON with {', '.join(_KEYS)}", exit_code=2
            )
        os.environ["OPENAI_API_KEY"] = text
        return KeyFile()
    keys = _read(path, text)
    azure = keys.get("api_type", "open_ai").lower() in _AZURE
    needed = ("api_key", *(_VARIABLES if azure else ()))
    if missing := [key for key in needed if not keys.get(key)]:
        raise JudgeError(f"{path}: no {', '.join(missing)}", exit_code=2)
    if not azure:
        os.environ["OPENAI_API_KEY"] = keys["api_key"]
        return KeyFile(base_url=keys.get("api_base"), model=keys.get("model_engine"))
    token = keys.get("api_type", "").lower() == "azure_ad"
    os.environ["AZURE_OPENAI_AD_TOKEN" if token else "AZURE_OPENAI_API_KEY"] = keys["api_key"]
    os.environ.update({variable: keys[key] for key, variable in _VARIABLES.items()})
    return KeyFile(azure=True, model=keys.get("model_engine"))


def _read(path: Path, text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        raise JudgeError(f"{path}: not JSON", exit_code=2) from None  # its words would show a part of the key
    if unknown := [key for key in value if key not in _KEYS]:
        raise JudgeError(f"{path}: {unknown[0]!r}: no such key{nearest(unknown[0], _KEYS)}", exit_code=2)
    if wrong := [key for key, each in value.items() if not isinstance(each, (str, type(None)))]:
        raise JudgeError(f"{path}: {', '.join(wrong)}: expected text", exit_code=2)
    return {key: each for key, each in value.items() if each}
