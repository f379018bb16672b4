from __future__ import annotations

import pytest

from tests.judging.forked import forked_alpaca_eval, origin  # noqa: F401


@pytest.fixture(autouse=True)
def no_keys_of_the_user(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """No test may spend the money of whoever runs it, or write into their cache."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "OPENAI_ORG_ID", "AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY",
                 "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION"):  # fmt: skip
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DELLA_BENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
