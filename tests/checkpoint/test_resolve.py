"""From a source to a folder, and what is said where there is none."""

import os
from fnmatch import fnmatch
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import errors

from della_bench import zoo
from della_bench.checkpoint import resolve
from della_bench.errors import CheckpointError
from della_bench.spec import Source


def refused(text, **options):
    with pytest.raises(CheckpointError) as caught:
        resolve(Source.parse(text), **options)
    assert str(caught.value).startswith(f"{Source.parse(text)}: ")
    return caught.value


@pytest.fixture
def hub(monkeypatch, tmp_path):
    """A hub that records what it is asked for and answers with a folder, or raises what `hub.error` holds."""
    asked = SimpleNamespace(calls=[], error=None, folder=tmp_path / "snapshot", files=["model.safetensors"])

    def snapshot_download(repo_id, **options):
        asked.calls.append((repo_id, options))
        if asked.error is not None:
            raise asked.error
        return str(asked.folder)

    def list_repo_files(self, repo_id, *, revision):
        if asked.error is not None:
            raise asked.error
        return asked.files

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot_download)
    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", list_repo_files)
    return asked


def takes(hub, file):
    """Whether the one call to the hub downloads a file, as the hub's own filter decides it."""
    ((_, options),) = hub.calls
    allowed = any(fnmatch(file, pattern) for pattern in options["allow_patterns"])
    return allowed and not any(fnmatch(file, pattern) for pattern in options["ignore_patterns"])


@pytest.mark.parametrize("ending", ["", "/", "/.", "//"])
def test_a_folder_is_itself_with_any_ending(tmp_path, ending):
    assert resolve(Source.parse(f"{tmp_path}{ending}")).samefile(tmp_path)


@pytest.mark.parametrize("text", ["model", "./model", "model/", "sub/../model", "../here/model"])
def test_a_relative_folder_is_one_of_the_working_folder(tmp_path, monkeypatch, hub, text):
    here = tmp_path / "here"
    (here / "model").mkdir(parents=True)
    (here / "sub").mkdir()
    monkeypatch.chdir(here)
    assert resolve(Source.parse(text)).samefile(here / "model")
    assert hub.calls == []


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(Source.parse("~/model")) == tmp_path / "model"


@pytest.mark.parametrize("name", ["a@b", "a,b", "a+b", "a:0.5", "50%", "zoo:base", " a ", "a\nb", "ä", "none"])
def test_a_folder_of_any_name_is_found_by_its_sources_text(tmp_path, monkeypatch, hub, name):
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path)
    for place in (name, f"{tmp_path}/{name}"):
        assert resolve(Source.parse(str(Source(place)))).samefile(tmp_path / name)
    assert hub.calls == []


def test_an_existing_folder_wins_over_a_hub_id_even_with_an_at_sign_in_it(tmp_path, monkeypatch, hub):
    monkeypatch.chdir(tmp_path)
    for name in ("org/model", "org/model@v1"):
        os.makedirs(name)
        assert resolve(Source.parse(name)).samefile(tmp_path / name)
    assert hub.calls == []


def test_a_revision_is_asked_of_the_hub_even_where_a_folder_has_the_repositorys_name(tmp_path, monkeypatch, hub):
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert resolve(Source.parse("org/model@v1")) == hub.folder


@pytest.mark.parametrize("name", zoo.NAMES)
def test_a_model_of_the_zoo_lies_in_the_package(name):
    assert resolve(Source.parse(f"zoo:{name}")) == zoo.folder(name)


def test_a_file_is_refused_with_what_a_source_is(tmp_path):
    file = tmp_path / "model.safetensors"
    file.touch()
    error = refused(str(file))
    assert "a file" in str(error)
    assert "config.json" in str(error)
    assert error.exit_code == 2


@pytest.mark.parametrize(
    "text",
    ["/no/such/folder", "./missing", "../missing", "~/missing", "a/b/c", "org/name/", "org name", "-org/name",
     "https%3A//huggingface.co/org/name", "org/näme", "x" * 300, "~no-such-user-here/x", "~/" + "x" * 300],
)  # fmt: skip
def test_what_is_neither_a_folder_nor_a_hub_id_is_refused_without_asking_the_hub(hub, monkeypatch, tmp_path, text):
    monkeypatch.chdir(tmp_path)
    error = refused(text)
    assert "no such folder" in str(error) or "no folder" in str(error)
    assert error.exit_code == 2
    assert hub.calls == []


def test_a_folder_that_may_not_be_entered_is_refused(tmp_path, monkeypatch):
    def denied(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.is_dir", denied)
    assert "Permission denied" in str(refused(f"{tmp_path}/a"))


@pytest.mark.parametrize("text", ["org/no--such--name", "a..b"])
def test_what_the_hub_itself_calls_no_id_is_refused(text):
    error = refused(text)
    assert "not a hub id" in str(error)
    assert error.exit_code == 2


def test_a_hub_id_without_a_network_is_no_fault_of_the_user(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    error = refused("org/never-downloaded")
    assert "no such folder here, and the hub could not be asked" in str(error)
    assert error.exit_code == 1


@pytest.mark.parametrize("revision", [None, "v1", "refs/pr/3", "0b3f9e1"])
def test_the_revision_is_passed_to_the_hub(hub, revision):
    assert resolve(Source("org/name", revision)) == hub.folder
    ((repo_id, options),) = hub.calls
    assert (repo_id, options["revision"]) == ("org/name", revision)


def test_weights_config_and_tokenizer_are_taken_and_nothing_else(hub):
    resolve(Source("org/name"))
    for file in ("config.json", "model.safetensors", "model-00001-of-00002.safetensors", "merges.txt",
                 "model.safetensors.index.json", "tokenizer.json", "tokenizer.model", "added_tokens.json",
                 "chat_template.jinja", "additional_chat_templates/tool_use.jinja"):  # fmt: skip
        assert takes(hub, file), file
    for file in ("pytorch_model.bin", "model.gguf", "modeling_x.py", "consolidated.safetensors", "README.md",
                 "original/consolidated.00.pth", "onnx/model.json", "checkpoint-10/model.safetensors",
                 "adapter/adapter_config.json", "assets/a.json"):  # fmt: skip
        assert not takes(hub, file), file


def test_without_weights_no_safetensors_are_taken(hub):
    resolve(Source("org/name"), weights=False)
    assert not takes(hub, "model.safetensors")
    assert not takes(hub, "model-00001-of-00002.safetensors")
    assert takes(hub, "config.json")
    assert takes(hub, "tokenizer.json")


def test_a_repositorys_code_is_taken_only_where_it_is_trusted(hub):
    resolve(Source("org/name"), trust_remote_code=True)
    assert takes(hub, "modeling_x.py")


SHARD, INDEX = "pytorch_model-00001-of-00002.bin", "pytorch_model.bin.index.json"


@pytest.mark.parametrize(
    ("files", "taken", "left"),
    [
        (["model.safetensors", "pytorch_model.bin"], ["model.safetensors"], ["pytorch_model.bin"]),
        ([SHARD, INDEX, "training_args.bin", "optimizer.bin"], [SHARD, INDEX], ["training_args.bin", "optimizer.bin"]),
        (["pytorch_model.bin", "adapter_model.safetensors"], ["pytorch_model.bin"], ["adapter_model.safetensors"]),
        (["pytorch_model.bin", "consolidated.safetensors", "onnx/model.safetensors"], ["pytorch_model.bin"], []),
        (["adapter_config.json", "adapter_model.bin"], ["adapter_config.json", "adapter_model.bin"], []),
        (["adapter_model.safetensors", "adapter_model.bin"], ["adapter_model.safetensors"], ["adapter_model.bin"]),
    ],
)
def test_of_several_formats_the_first_that_a_repository_has_is_taken(hub, files, taken, left):
    hub.files = files
    resolve(Source("org/name"))
    assert all(takes(hub, file) for file in taken)
    assert not any(takes(hub, file) for file in left)


def test_the_files_are_listed_at_the_revision_asked_for_and_only_for_weights(hub, monkeypatch):
    asked = []

    def listed(self, place, revision):
        asked.append((place, revision))
        return []

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", listed)
    resolve(Source("org/name", "v1"))
    resolve(Source("org/name", "v1"), weights=False)
    assert asked == [("org/name", "v1")]


@pytest.mark.parametrize("file", ["pytorch_model.bin", "model.safetensors", "adapter_model.bin"])
def test_without_a_network_the_cache_is_taken_with_weights_of_any_format(tmp_path, monkeypatch, file):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    commit, repository = "0" * 40, tmp_path / "models--org--name"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text(commit)
    (repository / "snapshots" / commit).mkdir(parents=True)
    (repository / "snapshots" / commit / file).touch()
    assert (resolve(Source("org/name")) / file).is_file()


def test_what_is_in_the_cache_is_taken_where_the_files_cannot_be_listed(hub, monkeypatch):
    def offline(self, place, revision):
        raise errors.OfflineModeIsEnabled("offline")

    monkeypatch.setattr(huggingface_hub.HfApi, "list_repo_files", offline)
    assert resolve(Source("org/name")) == hub.folder


RESPONSE: Any = SimpleNamespace(headers={}, request=None, status_code=404)


@pytest.mark.parametrize(
    ("error", "told", "code"),
    [
        (
            errors.GatedRepoError("403", response=RESPONSE),
            ["gated", "huggingface.co/org/name", "`hf auth login`"],
            2,
        ),
        (errors.RepositoryNotFoundError("404", response=RESPONSE), ["no such repository", "`hf auth login`"], 2),
        (errors.RevisionNotFoundError("404", response=RESPONSE), ["no revision 'v1' of org/name"], 2),
        (errors.HFValidationError("bad id"), ["not a hub id", "bad id"], 2),
        (errors.LocalEntryNotFoundError("not cached"), ["could not be asked", "not cached"], 1),
        (errors.OfflineModeIsEnabled("offline"), ["could not be asked", "offline"], 1),
        (errors.HfHubHTTPError("503 busy", response=RESPONSE), ["could not be asked", "503 busy"], 1),
        (ConnectionError("refused\nby peer"), ["could not be asked", "ConnectionError", "refused by peer"], 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_what_the_hub_refuses_is_told_with_what_to_do(hub, error, told, code):
    hub.error = error
    found = refused("org/name@v1")
    assert all(text in str(found) for text in told), str(found)
    assert "\n" not in str(found)
    assert found.exit_code == code


def test_an_interrupt_is_not_swallowed(hub):
    hub.error = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        resolve(Source("org/name"))
