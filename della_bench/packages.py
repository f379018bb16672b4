"""Installed packages: their versions, and the merge methods, checkpoint formats and judges that they offer us.

Nothing is loaded here. To look for entry points takes some milliseconds, so callers do it only for a name that is none
of ours, or to list all.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import EntryPoint, PackageNotFoundError, entry_points, version

__all__ = ["installed_version", "offered", "package_of"]


@cache
def installed_version(package: str) -> str:
    """Return a package's version, or "not installed"; looked up once, since each evaluation asks for many."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def offered(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, sorted by name."""
    return sorted(entry_points(group=group), key=lambda offer: offer.name)


def package_of(offer: EntryPoint) -> str:
    """Return the name of the package that offers an entry point."""
    return offer.dist.name if offer.dist else offer.module
