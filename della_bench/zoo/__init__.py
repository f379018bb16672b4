"""Four tiny Llama models that ship with the package: a base and its experts for math, code and chat.

They are trained from nothing by `python -m della_bench.zoo.train`, so that a demo, a test or a first look at a merge
needs no download. Importing this module costs neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["NAMES", "SKILLS", "folder"]

SKILLS = ("math", "code", "chat")
NAMES = ("base", *SKILLS)


def folder(name: str) -> Path:
    """Return the folder that holds the zoo's model `name`.

    Raises ValueError, naming the valid names, where there is no such model.
    """
    if name not in NAMES:
        raise ValueError(f"the zoo has no model {name!r}; it has {', '.join(NAMES)}")
    return Path(__file__).resolve().parent / name
