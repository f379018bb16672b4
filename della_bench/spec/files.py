"""Reading a spec from a YAML file or JSON text, where a key given twice is a fault and not a silent choice."""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import yaml

from della_bench.errors import SpecError

__all__ = ["is_file_name", "load_documents", "load_yaml", "read_json", "read_yaml", "read_yaml_documents"]

_MOST_VALUES = 100_000
_SUFFIXES = (".json", ".yaml", ".yml")  # JSON is YAML, too


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses doubled keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue  # `<<: *anchor` gives defaults; keys beside it win over them
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
            if isinstance(key, Hashable):
                seen.add(key)
        return super().construct_mapping(node, deep)


def is_file_name(text: str) -> bool:
    """Whether a text names a file with a spec in it, and is no spec itself."""
    path = Path(text)
    return path.suffix in _SUFFIXES and ("=" not in text or path.is_file())


def load_yaml(text: str | IO[str]) -> Any:
    """Return what a YAML text of one document holds. Raises yaml.YAMLError, also where a key is given twice."""
    with _told():
        return yaml.load(text, _StrictLoader)


def load_documents(text: str | IO[str]) -> list[Any]:
    """Return what the documents of a YAML text hold, empty ones left out.

    Raises yaml.YAMLError, also where a key is given twice.
    """
    with _told():
        documents = [data for data in yaml.load_all(text, _StrictLoader) if data is not None]
        for data in documents:
            _check_size(data)
    return documents


@contextmanager
def _told() -> Iterator[None]:
    """Raise yaml.YAMLError in the place of what PyYAML lets through."""
    try:
        yield
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (LookupError, AttributeError, TypeError):
        raise yaml.YAMLError("a value is not what its tag (!!int, !!bool, ...) says") from None


def _check_size(data: object) -> None:
    """Raise yaml.YAMLError where an alias (`*name`) stands within what it names, or aliases make values beyond number.

    What is loaded of them is small, but to walk through it or to show it would never end.
    """
    sizes: dict[int, int] = {}  # of each list and mapping, everything in it counted as often as it is named
    within: set[int] = set()

    def size(value: object) -> int:
        if not isinstance(value, (dict, list)):
            return 1
        if id(value) in within:
            raise yaml.YAMLError("an alias stands within what it names")
        if id(value) not in sizes:
            within.add(id(value))
            sizes[id(value)] = 1 + sum(map(size, value.values() if isinstance(value, dict) else value))
            within.remove(id(value))
        if sizes[id(value)] > _MOST_VALUES:
            raise yaml.YAMLError(f"its aliases make more than {_MOST_VALUES:,} values")
        return sizes[id(value)]

    size(data)


def read_yaml(path: str | Path) -> dict[str, Any]:
    """Return the mapping that a YAML file of one document holds; raises SpecError."""
    data, *others = read_yaml_documents(path)
    if others:
        raise SpecError(f"config={path}: holds {1 + len(others)} documents, and one is needed")
    return data


def read_yaml_documents(path: str | Path) -> list[dict[str, Any]]:
    """Return the mappings that the documents of a YAML file hold, at least one.

    Raises SpecError naming the file (and the line, where there is one) when it cannot be read, is empty, is broken or
    holds something else.
    """
    try:
        with Path(path).expanduser().open(encoding="utf-8") as file:
            documents = load_documents(file)
    except (OSError, RuntimeError) as error:  # RuntimeError: ~user where there is no such user
        raise SpecError(f"config={path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: no UTF-8, or a date such as 2024-13-01
        raise SpecError(f"config={path}: not YAML: {' '.join(str(error).split())}") from None
    if not documents:
        raise SpecError(f"config={path}: the file is empty; it needs at least base and experts")
    return [_mapping(data, f"config={path}") for data in documents]


def read_json(text: str) -> dict[str, Any]:
    """Return the mapping that a JSON text holds; raises SpecError."""
    try:
        data = json.loads(text, object_pairs_hook=_strict_pairs)
    except ValueError as error:
        raise SpecError(f"not a JSON object: {error}") from None
    return _mapping(data, "a spec in JSON")


def _strict_pairs(pairs: list[tuple[str, object]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"key {key!r} is given twice")
        out[key] = value
    return out


def _mapping(data: object, what: str) -> dict[str, Any]:
    if not isinstance(data, dict):
        raise SpecError(f"{what}: holds {type(data).__name__}, not a mapping of keys to values")
    if odd := [key for key in data if not isinstance(key, str)]:
        raise SpecError(f"{what}: not a mapping of keys to values: key {odd[0]!r} is no text; write it in quotes")
    return data
