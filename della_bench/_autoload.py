"""The start-up hook: a plain `lm_eval` knows our model types and tasks, and no other program pays much for it.

lm-eval 0.4.13 looks for no plugins, so a line in site-packages (`_autoload.pth`; `_autoload.start` from Python 3.15
on) calls `install()` whenever Python starts. All it does is put one finder on `sys.meta_path`. The finder wakes when
lm-eval imports one of the two modules in WATCHED, and registers us once that module has run.

Every Python start runs this file, hence its plainness: it imports `sys` and nothing else (`importlib.abc` alone costs
more than all of it, and even `from __future__` is an import).
"""

import sys

TYPE_CHECKING = False  # typing's own constant would have to be imported
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

__all__ = ["WATCHED", "install"]

# The module of lm-eval that has just been imported, and the function of della_bench.plugin that is then due. Not one
# for both: `lm_eval ls` never imports lm_eval.models.
WATCHED = {"lm_eval.models": "register_models", "lm_eval.tasks.manager": "register_tasks"}


def install() -> None:
    """Put the hook on `sys.meta_path`, once; where lm-eval is imported already, do at once what is due."""
    if _FINDER in sys.meta_path:
        return
    sys.meta_path.insert(0, _FINDER)
    for name in WATCHED:
        if name in sys.modules:
            _register(name)


def _register(name: str) -> None:
    """Run what is due after the import of `name`. An error is not caught: it becomes the error of that import."""
    from della_bench import plugin

    getattr(plugin, WATCHED[name])()


class _Finder:
    """Finds the watched modules where the finders after it find them, and no others.

    It stays in place after both have been seen, so that `importlib.reload` of one does not lose us; what it runs is
    idempotent.
    """

    def find_spec(
        self, name: str, path: "Sequence[str] | None" = None, target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name not in WATCHED:
            return None
        # Only the finders after this one: a hook of the same kind that asks all others cannot send us round in circles.
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find = getattr(finder, "find_spec", None)
            spec: ModuleSpec | None = find(name, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # a Loader by its methods
                return spec
        return None


class _Loader:
    """A module's own loader, which also registers us when it has run the module; all else it leaves to that loader."""

    def __init__(self, loader: "Any") -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> "Any":
        return getattr(self._loader, name)

    def exec_module(self, module: "ModuleType") -> None:
        # Handed back first: the module itself, and all who ask it later (inspect, pkgutil), see the loader they expect.
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        _register(module.__name__)


_FINDER = _Finder()
