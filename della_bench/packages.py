"""What other installed packages offer us by entry points: merge methods, checkpoint formats, judges.

Nothing is loaded here. To look for entry points takes some milliseconds, so callers do it only for a name that is none
of ours, or to list all.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

__all__ = ["offered", "package_of"]


def offered(group: str) -> list[EntryPoint]:
    """Return the entry points of a group, sorted by name."""
    return sorted(entry_points(group=group), key=lambda offer: offer.name)


def package_of(offer: EntryPoint) -> str:
    """Return the name of the package that offers an entry point."""
    return offer.dist.name if offer.dist else offer.module
