from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from della_bench.cli import main
from della_bench.errors import SpecError
from della_bench.spec import MergeSpec
from della_bench.spec.methods import METHODS

SPEC = "base=zoo:base,experts=zoo:math+zoo:code,drop_rate=0.3,window_size=0.14"


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main(list(arguments))
    captured = capsys.readouterr()
    return ended.value.code, captured.out, captured.err


@pytest.mark.parametrize("command", ["import della_bench.cli", "import della_bench", "import della_bench.spec"])
def test_start_up_imports_neither_torch_nor_rich(command):
    code = (
        f"import sys; {command}; print([m for m in ('torch', 'transformers', 'lm_eval', 'rich') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_spec_prints_a_canonical_line_that_parses_back_first(capsys):
    code, out, _ = run(capsys, "spec", SPEC)
    assert code == 0
    assert MergeSpec.parse(out.splitlines()[0]) == MergeSpec.parse(SPEC)
    assert MergeSpec.parse(SPEC).digest in out
    assert "drop_rate = 1 - density" in " ".join(out.split())


def test_spec_prints_the_numbers_of_each_tensor(capsys):
    varying = "base=zoo:base,experts=zoo:math+zoo:code,merge_method=ties,density=self_attn:0.9~0.5/0.6,weights=1~2+3"
    code, out, _ = run(capsys, "spec", "--layers", "--json", varying)
    tensors = json.loads(out)["tensors"]
    assert code == 0
    assert tensors["model.embed_tokens.weight"] == {"weights": [1, 3], "density": [0.6, 0.6], "lambda": 1}
    last = max(int(name.split(".")[2]) for name in tensors if ".layers." in name)
    name = f"model.layers.{last}.self_attn.q_proj.weight"
    assert tensors[name] == {"weights": [2, 3], "density": [0.5, 0.5], "lambda": 1}
    code, out, _ = run(capsys, "spec", "--layers", varying)
    (line,) = [line for line in out.splitlines() if name in line]
    assert line.split() == [name, "2,", "3", "0.5", "1"]


def test_spec_prints_what_each_tensor_of_slices_is_made_of(capsys):
    spec = (
        "base=zoo:base,experts=zoo:math+zoo:code,merge_method=task_arithmetic,slices=0-2/0:3-4+2:1-2,weights=1@3/0~1+2"
    )
    code, out, _ = run(capsys, "spec", "--layers", "--json", spec)
    tensors = json.loads(out)["tensors"]
    assert code == 0
    assert tensors["model.embed_tokens.weight"] == {"from": ["0", "1", "2"], "weights": [0, 2], "lambda": 1}
    assert tensors["model.norm.weight"] == {"from": ["0", "2"], "weights": [2], "lambda": 1}
    name = "model.layers.{}.mlp.up_proj.weight"
    assert tensors[name.format(1)] == {"from": ["0:1", "1:1", "2:1"], "weights": [1, 2], "lambda": 1}
    assert tensors[name.format(2)] == {"from": ["0:3", "2:1"], "weights": [2], "lambda": 1}
    assert name.format(3) not in tensors
    _, out, _ = run(capsys, "spec", "--layers", spec)
    (line,) = [line for line in out.splitlines() if name.format(2) in line]
    assert line.split() == [name.format(2), "0:3,", "2:1", "2", "1"]
    code, _, err = run(capsys, "spec", "--layers", spec.replace("3-4", "4-5"))
    assert (code, "slices: slice 1: 0:4-5: zoo:base has 4 layers, 0 to 3" in err) == (2, True)


def test_spec_as_json_holds_every_effective_key(capsys):
    _, out, _ = run(capsys, "spec", SPEC, "--json")
    assert MergeSpec.parse(json.loads(out)["keys"]) == MergeSpec.parse(SPEC)


def test_methods_lists_each_row_in_one_line_with_its_source(capsys):
    _, out, _ = run(capsys, "methods")
    lines = [line for line in out.splitlines() if not line.startswith(" ")]
    assert [line.split()[0] for line in lines] == list(METHODS)
    ends = [row.source + "; its bits may differ between devices" * (not row.pinned) for row in METHODS.values()]
    assert all(line.endswith(end) for line, end in zip(lines, ends, strict=True))


def test_methods_lists_the_keys_that_a_method_has_of_its_own(capsys):
    _, out, _ = run(capsys, "methods")
    lines = out.splitlines()
    below = lines[next(i for i, line in enumerate(lines) if line.startswith("karcher ")) + 1 :][:2]
    assert [line.split(":")[0].strip() for line in below] == ["max_iter", "tol"]
    assert below[0].endswith("a whole number of at least 0, default 10")
    _, out, _ = run(capsys, "methods", "--json")
    (row,) = [row for row in json.loads(out) if row["name"] == "breadcrumbs"]
    assert [(option["name"], option["default"], option["each"]) for option in row["options"]] == [("gamma", 0.01, True)]


def test_spec_says_what_a_methods_own_keys_mean(capsys):
    _, out, _ = run(capsys, "spec", "base=zoo:base,experts=zoo:math+zoo:code,merge_method=sce")
    assert "select_topk" in out
    assert "share of the varying delta parameters" in " ".join(out.split())


def test_a_users_mistake_ends_with_2_and_one_message_on_stderr(capsys):
    code, out, err = run(capsys, "spec", "base=zoo:base,experts=zoo:math,merge_method=dela,seed=x")
    assert (code, out) == (2, "")
    assert "did you mean 'della'" in err
    assert "seed='x'" in err
    assert "Traceback" not in err


def test_debug_brings_the_error_itself(capsys):
    with pytest.raises(SpecError):
        main(["spec", "base=zoo:base", "--debug"])


def test_a_missing_source_ends_with_2(capsys, tmp_path):
    code, _, err = run(
        capsys, "merge", f"base={tmp_path}/no,experts=zoo:math,merge_method=linear", "-o", str(tmp_path / "o")
    )
    assert code == 2
    assert f"{tmp_path}/no" in err
    assert not (tmp_path / "o").exists()


def test_a_hub_out_of_reach_ends_with_1(capsys, tmp_path):
    code, _, err = run(
        capsys, "merge", "base=nobody/nothing,experts=zoo:math,merge_method=linear", "-o", str(tmp_path / "o")
    )
    assert code == 1
    assert "nobody/nothing" in err


def test_merge_writes_a_folder(capsys, tmp_path, family):
    spec = f"base={family['base']},experts={family['a']},merge_method=task_arithmetic"
    code, out, _ = run(capsys, "merge", spec, "-o", str(tmp_path / "out"), "--max-shard-size", "20KB")
    assert code == 0
    assert spec in out
    assert (tmp_path / "out" / "model.safetensors.index.json").is_file()


def test_a_size_that_is_none_is_named(capsys, tmp_path):
    code, _, err = run(capsys, "merge", SPEC, "-o", str(tmp_path / "out"), "--max-shard-size", "big")
    assert code == 2
    assert "5GB" in err


def test_an_error_of_the_system_is_one_line_with_the_path(capsys, tmp_path):
    """Whatever a command does with files; a path below a file is never there."""
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "merged"
    spec = "base=zoo:base,experts=zoo:math,merge_method=task_arithmetic"
    code, _, err = run(capsys, "merge", spec, "-o", str(out))
    assert code == 1
    assert err.splitlines()[-1].startswith(f"della_bench: error: {tmp_path}/file")
    assert "Traceback" not in err
    with pytest.raises(OSError, match="file"):
        main(["--debug", "merge", spec, "-o", str(out)])


@pytest.mark.parametrize("name", ["", "."])
def test_merging_to_an_empty_name_is_refused_and_deletes_nothing(capsys, tmp_path, monkeypatch, name):
    """As where a shell's variable is not set."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.tex").touch()
    code, _, err = run(capsys, "merge", "base=zoo:base,experts=zoo:math,merge_method=linear", "-o", name, "--overwrite")
    assert (code, [path.name for path in tmp_path.iterdir()]) == (2, ["thesis.tex"])
    assert "empty name" in err


def test_spec_prints_what_a_methods_own_number_is_in_each_layer(capsys):
    spec = "base=zoo:base,experts=zoo:math,merge_method=nearswap,t=0.01~0.03"
    _, out, _ = run(capsys, "spec", spec, "--layers", "--json")
    tensors = json.loads(out)["tensors"]
    assert {row["t"] for row in tensors.values()} >= {0.01, 0.03}
    _, out, _ = run(capsys, "spec", spec, "--layers")
    assert "0.03" in out


def test_a_name_that_standard_output_cannot_hold_is_written_with_escapes():
    spec = "base=zoo:base,experts=zoo:math,merge_method=linear,name=%ED%A0%80\u00dc"
    done = subprocess.run(
        [sys.executable, "-m", "della_bench.cli", "spec", "--json", spec],
        env={**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\xdc" in done.stdout
