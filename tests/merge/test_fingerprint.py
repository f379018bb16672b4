from __future__ import annotations

import hashlib
import os
import shutil
import time

import pytest
import torch
from safetensors.torch import load_file

from della_bench.errors import DataError
from della_bench.merge import fingerprint as module
from della_bench.merge.fingerprint import digest_files, file_digest, fingerprint, input_files
from della_bench.merge.stream import Merge
from della_bench.resources import CACHE_VARIABLE
from della_bench.spec import MergeSpec


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def hashed(monkeypatch):
    """The files that were really read."""
    read: list[str] = []
    original = module._hash

    def watched(path):
        read.append(path.name)
        return original(path)

    monkeypatch.setattr(module, "_hash", watched)
    return read


@pytest.fixture
def old(monkeypatch):
    """Write a file a minute ago, as the clock of the module then tells it."""
    now = time.time_ns() + 60 * 10**9
    monkeypatch.setattr(time, "time_ns", lambda: now)

    def write(path, content):
        path.write_bytes(content)
        return path

    return write


def test_a_digest_is_the_sha_256_of_the_contents_and_read_once(tmp_path, hashed, old):
    path = old(tmp_path / "x", b"abc")
    digest = hashlib.sha256(b"abc").hexdigest()
    assert file_digest(path) == file_digest(path) == digest
    assert hashed == ["x"]


@pytest.mark.parametrize("content", [b"abd", b"abcd"])
def test_a_changed_file_is_read_again(tmp_path, hashed, content, old):
    path = old(tmp_path / "x", b"abc")
    file_digest(path)
    old(path, content)
    assert file_digest(path) == hashlib.sha256(content).hexdigest()
    assert len(hashed) == 2


def test_a_file_that_was_written_just_now_is_not_remembered(tmp_path, hashed):
    # Written again within the clock's tick, it would look the same.
    path = tmp_path / "x"
    path.write_bytes(b"abc")
    file_digest(path)
    path.write_bytes(b"abd")
    assert file_digest(path) == hashlib.sha256(b"abd").hexdigest()


def test_a_blob_of_the_hubs_cache_is_named_by_its_digest_and_not_read(tmp_path, hashed, old):
    digest = hashlib.sha256(b"large").hexdigest()
    (tmp_path / "blobs").mkdir()
    (tmp_path / "blobs" / digest).write_bytes(b"large")
    small = old(tmp_path / "blobs" / ("a" * 40), b"git names small files by SHA-1")
    snapshot = tmp_path / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(tmp_path / "blobs" / digest)
    (snapshot / "config.json").symlink_to(small)
    assert file_digest(snapshot / "model.safetensors") == digest
    assert hashed == []
    assert file_digest(snapshot / "config.json") == hashlib.sha256(small.read_bytes()).hexdigest()


def test_what_is_remembered_wrongly_is_no_digest(tmp_path, cache, hashed, old):
    path = old(tmp_path / "x", b"abc")
    digest = file_digest(path)
    (memory,) = (cache / "digests").iterdir()
    for broken in ("", "[]", memory.read_text().replace(digest, "short")):
        memory.write_text(broken)
        assert file_digest(path) == digest
    assert len(hashed) == 4


def test_a_cache_that_cannot_be_written_costs_time_and_no_more(tmp_path, monkeypatch, caplog, old):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "file"))
    path = old(tmp_path / "x", b"abc")
    assert file_digest(path) == hashlib.sha256(b"abc").hexdigest()
    assert "is not remembered" in caplog.text


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path, monkeypatch, old):
    path = old(tmp_path / "x", b"abc")
    monkeypatch.setattr(module, "_hash", lambda path: (path.write_bytes(b"other"), "0" * 64)[1])
    with pytest.raises(DataError, match="changed while it was read"):
        file_digest(path)
    with pytest.raises(DataError, match="cannot be read"):
        file_digest(tmp_path / "nowhere")


def of(text, trust=False, **changes):
    spec = MergeSpec.parse(text)
    digests = digest_files(input_files(Merge(spec, trust_remote_code=trust)))
    for file in digests:
        file.update(changes.get(file["role"].replace(" ", "_"), {}))
    return fingerprint(spec, digests)


ZOO = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=0.5"


def test_a_fingerprint_depends_on_the_spec_and_on_every_input_files_contents():
    assert of(ZOO) == of(f"{ZOO},name=other")
    others = [of(ZOO.replace("=ties", "=dare_ties")), of(f"{ZOO},lambda=0.5")]
    others += [of(ZOO, **{role: {"sha256": "0"}}) for role in ("base", "expert_0", "expert_1", "config", "tokenizer")]
    assert len({of(ZOO), *others}) == 8


def test_a_fingerprint_does_not_depend_on_where_the_files_lie():
    assert of(ZOO, base={"path": "/elsewhere"}) == of(ZOO)


def test_copies_links_and_other_ways_to_write_a_path_are_one_model(family, tmp_path, monkeypatch):
    def text(base, expert):
        return f"base={base},experts={expert}:0.7,merge_method=ties,density=0.5"

    base, expert = (shutil.copytree(family[name], tmp_path / name) for name in ("base", "a"))
    copy = shutil.copytree(expert, tmp_path / "copy")  # with the times of the files
    for path in copy.iterdir():
        os.utime(path, ns=(1, 1))
    (tmp_path / "link").symlink_to(expert)
    monkeypatch.chdir(tmp_path)
    wanted = of(text(base, expert))
    for place in (f"{expert}/", "a", "./a", "copy", "link", f"{tmp_path}/copy/../a"):
        assert of(text(base, place)) == wanted, place
    assert of(text("base/", expert)) == of(f"{text('base', expert)},name=other") == wanted
    assert of(text(base, base)) != wanted


def test_the_place_of_an_expert_counts(family):
    one, two = (f"base={family['base']},experts={pair},merge_method=dare_ties,density=0.5"
                for pair in (f"{family['a']}+{family['b']}", f"{family['b']}+{family['a']}"))  # fmt: skip
    assert of(one) != of(two)


def test_other_bytes_under_a_copys_name_size_and_time_are_another_model(family, tmp_path):
    expert = shutil.copytree(family["a"], tmp_path / "a")
    text = f"base={family['base']},experts={expert},merge_method=task_arithmetic"
    before, weights = of(text), expert / "model.safetensors"
    state, content = weights.stat(), weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(weights, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert of(text) != before
    weights.write_bytes(content)
    assert of(text) == before


def test_the_same_tensors_in_another_format_are_another_model(family, tmp_path):
    expert = shutil.copytree(family["a"], tmp_path / "a")
    text = f"base={family['base']},experts={expert},merge_method=task_arithmetic"
    before = of(text)
    torch.save(load_file(expert / "model.safetensors"), expert / "pytorch_model.bin")
    (expert / "model.safetensors").unlink()
    assert of(text) != before


def test_generation_config_and_trusted_code_are_part_of_a_model(family, tmp_path):
    base = shutil.copytree(family["base"], tmp_path / "base")
    text = f"base={base},experts={family['a']},merge_method=task_arithmetic"
    seen = [of(text), of(text, trust=True)]
    (base / "generation_config.json").write_text('{"repetition_penalty": 1.3}')
    seen += [of(text), of(text, trust=True)]
    (base / "modeling_own.py").write_text("x = 1")
    seen += [of(text), of(text, trust=True)]
    (base / "modeling_own.py").write_text("x = 2")
    seen += [of(text), of(text, trust=True)]
    assert seen[0] == seen[1]
    assert seen[2] == seen[3] == seen[4] == seen[6]
    assert len({seen[0], seen[2], seen[5], seen[7]}) == 4


def test_files_of_a_sentencepiece_tokenizer_and_its_templates_are_part_of_a_model(family, tmp_path):
    base = shutil.copytree(family["base"], tmp_path / "base")
    text = f"base={base},experts={family['a']},merge_method=task_arithmetic"
    seen = {of(text)}
    for name in ("spiece.model", "own.tiktoken", "additional_chat_templates/tools.jinja"):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("x")
        seen.add(of(text))
    assert len(seen) == 4


def test_the_inputs_are_weights_configuration_and_tokenizer():
    files = {(role, path.name) for role, path in input_files(Merge(MergeSpec.parse(ZOO)))}
    wanted = {("base", "model.safetensors"), ("expert 1", "model.safetensors"), ("config", "config.json")}
    assert wanted | {("tokenizer", "tokenizer.json")} <= files


def test_other_contents_of_the_same_size_and_time_of_modification_are_read_again(tmp_path, hashed, old):
    """As archives leave them that set all times alike."""
    path = old(tmp_path / "x", b"abc")
    os.utime(path, ns=(0, 0))
    file_digest(path)
    os.utime(old(path, b"abd"), ns=(0, 0))
    assert file_digest(path) == hashlib.sha256(b"abd").hexdigest()
    assert hashed == ["x", "x"]


def test_a_model_is_another_when_a_file_changes_whose_size_and_time_do_not(family, tmp_path):
    folders = {name: shutil.copytree(family[name], tmp_path / name) for name in ("base", "a")}
    text = f"base={folders['base']},experts={folders['a']},merge_method=task_arithmetic"
    seen = {of(text)}
    for path in (folders["a"] / "model.safetensors", folders["base"] / "generation_config.json"):
        before = path.stat()
        content = path.read_bytes()
        path.write_bytes(content[:-2] + b" }" if path.suffix == ".json" else content[:-1] + bytes([content[-1] ^ 1]))
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
        seen.add(of(text))
    assert len(seen) == 3
