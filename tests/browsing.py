"""One headless Chromium for all tests that want one; they skip where it, or playwright, is missing."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

FLAGS = [
    "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-sync",
]  # fmt: skip


class Visit:
    """A page that is open, with everything that it complained of or asked for besides itself."""

    def __init__(self, tab: Any, path: Path) -> None:
        self.tab = tab
        self.complaints: list[str] = []
        self.requests: list[str] = []
        tab.on("console", lambda message: self.complaints.append(message.text))
        tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        tab.on("request", lambda request: self.requests.append(request.url))
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready=true]", state="attached")

    def names(self) -> list[str]:
        """Return the names of the rows that are shown, from the top."""
        return self.texts("#leaderboard tbody tr:not([hidden]) .name")

    def texts(self, selector: str) -> list[str]:
        return [text.strip() for text in self.tab.locator(selector).all_text_contents()]


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("chromium is not installed")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(executable_path=chromium, args=FLAGS)
        yield found
        found.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Visit]]:
    """Open a page in a fresh profile: visit(path, color_scheme="dark", ...)."""
    contexts = []

    def opened(path: Path, **options: Any) -> Visit:
        contexts.append(browser.new_context(viewport={"width": 1200, "height": 900}, **options))
        return Visit(contexts[-1].new_page(), path)

    yield opened
    for context in contexts:
        context.close()
