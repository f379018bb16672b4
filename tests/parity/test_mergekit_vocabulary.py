"""Vocabularies of the same mergekit YAML in both programs: tokenizers, embeddings, heads, chat templates.

mergekit goes through the models in the order of a set of names, which changes from process to process, and with it the
ids of new tokens; here it is given the order of the YAML, which is ours.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoTokenizer

from della_bench.merge.folder import write_folder
from della_bench.merge.stream import Merge
from della_bench.spec import MergeSpec
from della_bench.spec.templates import NAMED
from tests import tiny

REASON = "mergekit is not installed (the extra `parity`)"
runner = pytest.importorskip("mergekit.merge", reason=REASON, exc_type=ImportError)
configs = pytest.importorskip("mergekit.config", reason=REASON, exc_type=ImportError)
options = pytest.importorskip("mergekit.options", reason=REASON, exc_type=ImportError)

CHATML = "{% for m in messages %}<|im_start|>{{ m.content }}<|im_end|>{% endfor %}"
MAKE: dict[str, Any] = {
    "llama": tiny.llama,
    "tied": lambda seed, **size: tiny.llama(seed, tie_word_embeddings=True, **size),
    "gpt2": tiny.gpt2,
}
# Each model's rows, the tokens that its tokenizer has beside the 259 common ones, and its chat template.
MODELS: dict[str, tuple[int, tuple[str, ...], str | None]] = {
    "base": (259, (), None),
    "padded": (264, (), None),
    "short": (260, ("<s1>", "<s2>"), None),  # the tokenizer has an id more than there are rows
    "a": (261, ("<both>", "<a>"), CHATML),
    "b": (262, ("<b>", "<both>", "<c>"), CHATML + "\n"),
    "c": (260, ("<c>",), "{{ messages }}"),
    "d": (259, (), CHATML),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    for kind, make in MAKE.items():
        for seed, (name, (rows, extra, template)) in enumerate(MODELS.items()):
            tiny.save(make(seed, vocab=rows, layers=1), root / kind / name, tiny.tokenizer(extra, template))
    return root


@pytest.fixture(autouse=True)
def in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    def referenced_models(self: Any) -> list[Any]:
        sliced = [item for module in (self.modules or {}).values() for item in module.slices[0].sources]
        listed = [*([self.base_model] if self.base_model else []), *(item.model for item in self.models or sliced)]
        return list(dict.fromkeys(listed))

    monkeypatch.setattr(configs.MergeConfiguration, "referenced_models", referenced_models)


def config(folder: Path, *experts: str, base: str = "base", method: str = "task_arithmetic", **keys: Any) -> Any:
    """A mergekit configuration of models in a folder; `{a}` in a key's value stands for the place of model a."""
    places = {name: str(folder / name) for name in MODELS}

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: filled(one) for key, one in value.items()}
        return value.format(**places) if isinstance(value, str) and value.strip("{}") in MODELS else value

    models = [{"model": places[name], "parameters": {"weight": 0.5 + i / 4}} for i, name in enumerate(experts)]
    return {"merge_method": method, "base_model": places[base], "models": models, **filled(keys)}


def by_both(made: Any, folder: Path) -> tuple[Path, Path]:
    """Write a merge by us and by mergekit."""
    path = folder / "mergekit.yml"
    path.write_text(yaml.safe_dump(made), encoding="utf-8")
    choices = options.MergeOptions(copy_tokenizer=True, write_model_card=False, quiet=True)
    runner.run_merge(configs.MergeConfiguration.model_validate(made), str(folder / "theirs"), choices)
    return write_folder(Merge(MergeSpec.parse(str(path))), folder / "ours", progress=False), folder / "theirs"


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for file in folder.glob("*.safetensors") for name, tensor in load_file(file).items()}


TWO = {"token": "<s>", "kind": "model_token", "model": "{b}"}
CASES: dict[str, dict[str, Any]] = {
    "base": {"tokenizer": {"source": "base"}},
    "base, in its old form": {"tokenizer_source": "base"},
    "base with more rows than tokens": {"tokenizer_source": "base", "base": "padded"},
    "base with more tokens than rows": {"tokenizer_source": "base", "base": "short"},
    "union": {"tokenizer_source": "union"},
    "union of three": {"tokenizer": {"source": "union"}, "experts": ("a", "b", "c")},
    "union over a base that has more tokens": {"tokenizer_source": "union", "base": "b", "experts": ("base", "a")},
    "union over a base with more tokens than rows": {"tokenizer_source": "union", "base": "short"},
    "a model": {"tokenizer": {"source": "{b}"}},
    "a model that is none of the merge's": {"tokenizer_source": "{c}"},
    "padding": {"tokenizer": {"source": "union", "pad_to_multiple_of": 64}},
    "padding of what is a multiple": {"tokenizer": {"source": "base", "pad_to_multiple_of": 7}},
    "tokens": {"tokenizer": {"source": "union", "tokens": {"<both>": {"source": "{b}"}, "<a>": {"source": "{a}"}}}},
    "forced tokens": {
        "tokenizer": {"source": "union", "tokens": {"<both>": {"source": "{b}", "force": True},
                                                    "</s>": {"source": "{a}", "force": True}}}
    },
    "other tokens' rows, zeros and new tokens": {
        "tokenizer": {
            "source": "union",
            "pad_to_multiple_of": 8,
            "tokens": {
                "<new>": {"source": TWO},
                "<zero>": {"source": {"kind": "zero"}},
                "<a>": {"source": {"kind": "model_token", "model": "{a}", "token_id": 5}, "force": True},
            },
        }
    },
}  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name"), [*(("llama", name) for name in CASES), ("tied", "union of three"), ("gpt2", "padding"),
                       ("gpt2", "a model"), ("gpt2", "other tokens' rows, zeros and new tokens")]
)  # fmt: skip
def test_vocabulary_and_rows_are_those_that_mergekit_writes(kind, name, folders, tmp_path):
    keys = {"experts": ("a", "b"), **CASES[name]}
    ours, theirs = by_both(config(folders / kind, *keys.pop("experts"), **keys), tmp_path)
    vocabs = [AutoTokenizer.from_pretrained(folder).get_vocab() for folder in (ours, theirs)]
    assert vocabs[0] == vocabs[1]
    mine, wanted = tensors(ours), tensors(theirs)
    assert mine.keys() == wanted.keys()
    for tensor, merged in mine.items():
        assert merged.shape == wanted[tensor].shape
        torch.testing.assert_close(merged, wanted[tensor], rtol=0, atol=1e-6 * max(1, float(merged.abs().max())))


@pytest.mark.parametrize("method", ["linear", "slerp", "ties", "passthrough"])
def test_rows_are_aligned_before_any_method(method, folders, tmp_path):
    shared: dict[str, Any] = {"slerp": {"t": 0.3}, "ties": {"density": 1.0}}.get(method, {})
    made = config(folders / "llama", "a", *(["b"] * (method in ("linear", "ties"))), method=method,
                  base="a" if method == "passthrough" else "b" if method == "linear" else "base",
                  tokenizer={"source": "union"}, parameters=shared)  # fmt: skip
    ours, theirs = by_both(made, tmp_path)
    mine, wanted = tensors(ours), tensors(theirs)
    for tensor, merged in mine.items():
        torch.testing.assert_close(merged, wanted[tensor], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("base", "experts", "keys"),
    [
        ("padded", ("c", "a", "b"), {"tokenizer": {"source": "union"}}),
        ("padded", ("c", "a"), {"tokenizer": {"source": "union"}}),
        ("padded", ("base",), {"tokenizer": {"source": "union"}}),
        ("base", ("d",), {}),
    ],
    ids=["most have it", "as many have each", "none has one", "without a tokenizer"],
)
def test_auto_takes_the_chat_template_that_mergekit_takes(base, experts, keys, folders, tmp_path):
    both = by_both(config(folders / "llama", *experts, base=base, chat_template="auto", **keys), tmp_path)
    ours, theirs = (AutoTokenizer.from_pretrained(folder).chat_template for folder in both)
    assert ours == theirs


U, A, S = ({"role": role} for role in ("user", "assistant", "system"))
DIALOGUES = [
    [U | {"content": " Hi "}],
    [S | {"content": "Be brief. "}, U | {"content": "Hi"}],
    [U | {"content": "Hi"}, A | {"content": "Ho\n"}, U | {"content": "Hi"}],
    [S | {"content": "S"}, U | {"content": "a"}, A | {"content": "b"}],
]


@pytest.mark.parametrize("name", NAMED)
def test_a_template_by_name_gives_mergekits_prompts(name):
    from importlib.resources import files

    theirs = (files("mergekit._data.chat_templates") / f"{name}.jinja").read_text("utf-8")
    tokenizer = tiny.tokenizer()
    for dialogue in DIALOGUES:
        for prompt in (True, False):
            both = [
                tokenizer.apply_chat_template(
                    dialogue, chat_template=text, tokenize=False, add_generation_prompt=prompt
                )
                for text in (NAMED[name], theirs)
            ]
            assert both[0] == both[1]


def test_all_names_of_mergekit_are_known():
    from importlib.resources import files

    there = {path.name.removesuffix(".jinja") for path in files("mergekit._data.chat_templates").iterdir()}
    assert {name for name in there if not name.startswith("__")} == set(NAMED)
