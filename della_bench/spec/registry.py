"""All merge methods by their names: the built-in ones, and those that other packages offer by entry points.

An entry point is loaded when its method is used or when all methods are listed, never before: to look for them takes a
while, and another package's module may import anything.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import EntryPoint

from della_bench.packages import offered, package_of
from della_bench.spec.method import BUILT_IN, Method
from della_bench.spec.methods import METHODS
from della_bench.suggest import nearest

__all__ = ["GROUP", "all_methods", "find_method", "method_names", "register", "registered"]

log = logging.getLogger(__name__)

GROUP = "della_bench.merge_methods"  # of entry points: a method's name = "module:METHOD"

_registered: dict[str, Method] = {}


def register(method: Method, package: str) -> Method:
    """Let a method be found by its name, and return it with the name of the package that offers it.

    The table's rows and what entry points load come in here; a program may register a method of its own.

    Raises ValueError where another method has the name, and where a method that is not built in has no version.
    """
    method = replace(method, package=package)
    if package != BUILT_IN and not method.version:
        raise ValueError(f"method {method.name!r} has no version; give one, and raise it when the method's bits change")
    known = _registered.setdefault(method.name, method)
    if known != method:
        raise ValueError(f"method {method.name!r} is there already, from {known.package}")
    return known


def find_method(name: str) -> Method:
    """Return a method by its name.

    Raises ValueError, with the nearest name, where there is none; and with the package's name where a package offers it
    and it does not load.
    """
    if name not in _registered:
        offers = _offers().get(name)
        if offers is None:
            raise ValueError(f"no such method{nearest(name, method_names())}")
        _load(name, offers)
    return _registered[name]


def method_names() -> list[str]:
    """Return the names of all methods, the table's first; nothing is loaded."""
    return [*_registered, *sorted(_offers().keys() - _registered.keys())]


def registered() -> list[Method]:
    """Return the methods that are there without loading any other: the table's, and those that were used."""
    return list(_registered.values())


def all_methods() -> dict[str, Method]:
    """Return all methods by name, the table's first; one that does not load is left out with a warning."""
    for name, offers in sorted(_offers().items()):
        known = _registered.get(name)
        if known is None:
            try:
                _load(name, offers)
            except ValueError as error:
                log.warning("merge_method=%s: %s", name, error)
        elif others := {package_of(offer) for offer in offers} - {known.package}:
            log.warning("merge_method=%s is %s's own; that of %s is left out", name, known.package, _listed(others))
    return dict(_registered)


def _offers() -> dict[str, list[EntryPoint]]:
    """Return the entry points of installed packages by the method's name."""
    offers: dict[str, list[EntryPoint]] = {}
    for offer in offered(GROUP):
        offers.setdefault(offer.name, []).append(offer)
    return offers


def _load(name: str, offers: list[EntryPoint]) -> None:
    """Load and register what one package offers. Raises ValueError, which names the package."""
    if len(offers) > 1:
        raise ValueError(f"offered by several packages: {_listed(map(package_of, offers))}; keep one of them installed")
    (offer,) = offers
    package = package_of(offer)
    try:
        method = offer.load()
        if not isinstance(method, Method):
            raise ValueError(f"it is {type(method).__name__}, not della_bench.spec.Method")
        if method.name != name:
            raise ValueError(f"it calls itself {method.name!r}; the entry point must have the same name")
        register(method, package)
    except Exception as error:
        what = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        raise ValueError(f"package {package} offers it as {offer.value}, which does not load: {what}") from error


def _listed(packages: Iterable[str]) -> str:
    return ", ".join(sorted(packages))


for row in METHODS.values():
    register(row, BUILT_IN)
