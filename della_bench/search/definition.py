"""The definition that a search keeps in its folder, so that another search does not go on with its candidates."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from della_bench.errors import SpecError, UsageError
from della_bench.jsonfiles import write_whole
from della_bench.search.plan import LATER, Plan
from della_bench.spec.files import load_documents

__all__ = ["check_folder", "differences_from", "is_definition", "keep_definition", "kept_definition"]

_FILE = "space.yaml"


def kept_definition(out: Path) -> dict[str, Any] | None:
    """Return the definition of the search that lies in a folder; None where there is none."""
    path = out / _FILE
    if not path.is_file():
        return None
    try:
        value, *_ = [*load_documents(path.read_text(encoding="utf-8")), None]
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise SpecError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    return value if isinstance(value, dict) else {}


def is_definition(kept: Mapping[str, Any]) -> bool:
    """Return whether a search wrote this, and not somebody a space of the same file name."""
    inside = kept.get("search")
    return isinstance(inside, Mapping) and "engine" in inside


def keep_definition(plan: Plan) -> None:
    """Write the definition into the search's folder."""
    write_whole(plan.out / _FILE, yaml.safe_dump(plan.definition, sort_keys=False, allow_unicode=True))


def _differences(kept: Mapping[str, Any], asked: Mapping[str, Any], place: str = "") -> list[str]:
    """Return what differs between two definitions, a line each: the key, what lies there, and what is asked for."""
    found: list[str] = []
    for key in dict.fromkeys([*kept, *asked]):
        before, now = kept.get(key), asked.get(key)
        name = f"{place}{key}"
        if isinstance(before, Mapping) and isinstance(now, Mapping):
            found += _differences(before, now, f"{name}.")
        elif before != now:
            found.append(f"{name}: {_shown(before)} there, {_shown(now)} asked for")
    return found


def differences_from(kept: Mapping[str, Any], plan: Plan) -> list[str]:
    """Return what differs between the definition in a search's folder and a plan, as far as the folder tells."""
    asked, known = plan.definition, kept.get("search")
    if isinstance(known, Mapping):
        asked["search"] = {key: each for key, each in asked["search"].items() if key in known or key not in LATER}
    return _differences(kept, asked)


def check_folder(plan: Plan) -> None:
    """Raise UsageError where the search's folder holds another search, named difference by difference."""
    kept = kept_definition(plan.out)
    if kept is not None and not is_definition(kept):
        path = plan.out / _FILE
        raise UsageError(f"{path}: no search wrote it, and this one would write over it: --out names another folder")
    if kept is not None and (differing := differences_from(kept, plan)):
        lines = "\n".join(differing)
        raise UsageError(f"{plan.out} holds another search (--force-new starts beside it):\n{lines}")


def _shown(value: object) -> str:
    return "nothing" if value is None else json.dumps(value, default=str, ensure_ascii=False)
