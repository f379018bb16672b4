"""Finding a judge's folder by its name: those that ship, and those that other packages offer by entry points.

A package offers a judge by an entry point of the group `della_bench.judges`: its name is the judge's, its value says
where the folder with judge.yaml lies. That is a package whose folder it is, or a module's variable with the path:

    [project.entry-points."della_bench.judges"]
    strict = "my_judges.strict"                   the folder my_judges/strict
    lenient = "my_judges:LENIENT"                 LENIENT = Path(__file__).parent / "data" / "lenient"

Nothing of another package is imported before its judge is asked for.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import EntryPoint
from pathlib import Path

from della_bench.errors import JudgeError
from della_bench.packages import offered, package_of
from della_bench.resources import folder
from della_bench.suggest import nearest

__all__ = ["EXACT", "FILE", "GROUP", "JudgeFolder", "find_judge", "judge_names", "offered_judges"]

EXACT = "exact"  # no folder: answers are judged by their numbers
_log = logging.getLogger("della_bench.judging")

FILE = "judge.yaml"
GROUP = "della_bench.judges"
_OURS = "della-bench"


@dataclass(frozen=True)
class JudgeFolder:
    """A judge's name, and the folder that makes it."""

    name: str
    path: Path


@dataclass(frozen=True)
class Offer:
    """A judge that the installed `package` offers; `locate` returns its folder, and raises whatever is wrong."""

    name: str
    package: str
    locate: Callable[[], Path]


def offered_judges() -> dict[str, Offer]:
    """Return all judges that can be had by name; none is loaded.

    The ones that ship go first: another package's judge of the same name is left out with a warning. Raises JudgeError
    where two other packages offer the same name: which one is meant cannot be known.
    """
    shipped = [
        Offer(path.parent.name, _OURS, partial(Path, path.parent)) for path in folder("judges").glob(f"*/{FILE}")
    ]
    installed = [Offer(entry.name, package_of(entry), partial(_locate, entry)) for entry in offered(GROUP)]
    offers: dict[str, Offer] = {}
    for offer in (*sorted(shipped, key=lambda each: each.name), *installed):
        known = offers.setdefault(offer.name, offer)
        if known is offer:
            continue
        if known.package != _OURS:
            both = f"{known.package} and by {offer.package}"
            raise JudgeError(f"judge {offer.name!r} is offered by {both}; keep one of them installed", exit_code=2)
        _log.warning("judge %s is %s's own; that of package %s is left out", offer.name, _OURS, offer.package)
    return offers


def judge_names() -> list[str]:
    """Return the names of all judges that can be had by name."""
    return list(offered_judges())


def find_judge(wanted: str | Path) -> JudgeFolder:
    """Return the judge of the name `wanted`, or the one in the folder at that path.

    Raises JudgeError with the nearest name where there is neither, and with the package's name where a package offers a
    judge and its folder cannot be found.
    """
    offers = offered_judges()
    if isinstance(wanted, str) and (offer := offers.get(wanted)) is not None:
        return JudgeFolder(offer.name, _folder_of(offer))
    path = Path(wanted).expanduser()
    path = path.parent if path.name == FILE else path
    if (path / FILE).is_file():
        path = path.resolve()
        return JudgeFolder(path.name, path)
    near = nearest(str(wanted), [*offers, EXACT])
    raise JudgeError(f"no judge {str(wanted)!r}, nor a folder of that name with {FILE}{near}", exit_code=2)


def _folder_of(offer: Offer) -> Path:
    try:
        path = offer.locate()
    except Exception as error:  # importing another package's module may raise anything
        raise JudgeError(
            f"judge {offer.name!r} of package {offer.package} does not load: {type(error).__name__}: {error}",
            exit_code=2,
        ) from error
    if not (path / FILE).is_file():
        message = f"judge {offer.name!r} of package {offer.package} does not load: no {FILE} in {path}"
        raise JudgeError(message, exit_code=2)
    return path


def _locate(entry: EntryPoint) -> Path:
    """Return the folder that an entry point names: a package's own, or the path in a module's variable."""
    loaded = entry.load()
    if isinstance(loaded, (str, os.PathLike)):
        return Path(loaded)
    places = [Path(place) for place in getattr(loaded, "__path__", ())]
    if not places:
        raise TypeError(f"{entry.value} is neither a package nor a path, but {type(loaded).__name__}")
    return next((place for place in places if (place / FILE).is_file()), places[0])
