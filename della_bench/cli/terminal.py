"""The console that commands print tables and texts on: what a model wrote is shown there and never obeyed."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from della_bench.visible import visible

__all__ = ["Terminal"]


class Terminal(Console):
    """A rich console that writes out every control character in what it is given; its own colours are none of these."""

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """Yield rich's segments with their text made visible, whatever renderable they come from."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(visible(segment.text), segment.style)
