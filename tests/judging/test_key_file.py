"""A key file of the DELLA authors' form, or with a key alone, and what no message ever shows."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from della_bench.cli.judge.options import make_settings
from della_bench.errors import JudgeError
from della_bench.judging.key_file import KeyFile, use_key_file

SECRET = "very-secret-5ab1"
AZURES = ("AZURE_OPENAI_ENDPOINT", "AZURE_OPENAI_API_KEY", "AZURE_OPENAI_AD_TOKEN", "OPENAI_API_VERSION")
AZURE = {
    "api_type": "azure",
    "api_base": "https://example.openai.azure.com/",
    "api_version": "2023-05-15",
    "api_key": SECRET,
    "model_engine": "GPT4",
    "model_family": "gpt-4",
}


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", *AZURES):
        monkeypatch.setenv(name, "")  # restored afterwards, whatever a test sets


def written(folder: Path, value: object) -> Path:
    path = folder / "keys.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def test_the_authors_file_of_azure_is_understood(tmp_path: Path) -> None:
    assert use_key_file(written(tmp_path, AZURE)) == KeyFile(azure=True, model="GPT4")
    assert os.environ["AZURE_OPENAI_API_KEY"] == SECRET
    assert os.environ["AZURE_OPENAI_ENDPOINT"] == AZURE["api_base"]
    assert os.environ["OPENAI_API_VERSION"] == "2023-05-15"


def test_their_file_of_openai_names_server_and_model(tmp_path: Path) -> None:
    value = {**AZURE, "api_type": "open_ai", "api_base": "http://127.0.0.1:9/v1"}
    assert use_key_file(written(tmp_path, value)) == KeyFile(base_url="http://127.0.0.1:9/v1", model="GPT4")
    assert os.environ["OPENAI_API_KEY"] == SECRET


def test_a_file_may_hold_the_key_alone(tmp_path: Path) -> None:
    assert use_key_file(written(tmp_path, f"{SECRET}\n")) == KeyFile()
    assert os.environ["OPENAI_API_KEY"] == SECRET


def test_a_mark_before_the_key_is_none_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "")
    use_key_file(written(tmp_path, f"\ufeff{SECRET}\n"))
    assert os.environ["OPENAI_API_KEY"] == SECRET


def test_options_come_before_what_the_file_says(tmp_path: Path) -> None:
    path = written(tmp_path, AZURE)
    common = {"concurrency": 1, "requests_per_minute": None, "tokens_per_minute": None, "timeout": 1.0}
    rest = {"max_cost": None, "cache": None, "api_key_file": path}
    settings = make_settings(base_url=None, azure=False, model=None, **common, **rest)  # type: ignore[arg-type]
    assert (settings.server.azure, settings.model) == (True, "GPT4")
    own = make_settings(base_url="http://127.0.0.1:9/v1", azure=False, model="mine", **common, **rest)  # type: ignore[arg-type]
    assert (own.server.azure, own.server.base_url, own.model) == (False, "http://127.0.0.1:9/v1", "mine")


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        (f'{{"api_key": "{SECRET}"', "not JSON"),
        ("two words", "no key"),
        ("", "no key"),
        (f"{SECRET}\u00e9", "one word of ASCII"),
        ({**AZURE, "api_version": ""}, "no api_version"),
        ({**AZURE, "api_kye": SECRET}, "did you mean 'api_key'"),
        ({**AZURE, "api_base": 3}, "api_base: expected text"),
    ],
)
def test_a_fault_names_the_file_and_never_the_key(tmp_path: Path, value: object, fault: str) -> None:
    path = written(tmp_path, value)
    with pytest.raises(JudgeError, match=fault) as told:
        use_key_file(path)
    assert str(path) in str(told.value)
    assert SECRET not in str(told.value)
