"""A spec survives every way in which it is written down and read again."""

import json
import math
from dataclasses import replace
from operator import attrgetter

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from lm_eval._cli.utils import key_val_to_dict
from lm_eval.utils import simple_parse_args_string

from della_bench.spec import MergeSpec, Option, Source
from della_bench.spec.methods import METHODS
from della_bench.spec.source import decode, encode
from della_bench.spec.templates import NAMED, Template
from della_bench.spec.thresholds import exact
from della_bench.spec.vocabulary import TokenRow
from tests.every_method import expert_count

NASTY = [
    "a,b", "a+b", "a=b", "a:b", "a:0.5", "a%b", "a%2Cb", "50%", "a@b", "@", "[a]", "[1,2]", "{'a':1}",
    "(a", "a)", "'a'", "\"a\"", "'", "\"", " a", "a ", "  ", " ", "a b", "a\tb", "\n", "\\", "a\\",
    "ä/模型", "\xa0", "\u2028", "\ufeff", "🦆", "1", "-1", "1.5", "1e5", "-1e-5", "1_000", "0x1F", "-0x1f",
    "0b1", "0o7", "inf", "-inf", "nan", "1j", "1-2j", "1 - 2j", "- 5", "...", "٣", "½", "²", "一",
    "true", "False", "None", "none", "auto", "zoo:base", "zoo:", "zoo", "/a", "./a@b", "~", "~/a", "..",
    ".", "a/", "org/name", "/a@b", "#", "a#b", "\x00", "\ud800", "é", "é", "ＴＲＵＥ", "K", "0",
]  # fmt: skip
texts = (
    st.sampled_from(NASTY)
    | st.text(min_size=1, max_size=8)
    | st.text("ab01._-/~@:+,=% \\'\"[](){}", min_size=1, max_size=6)
)
plain_sources = (
    st.sampled_from(["base", "math", "code", "chat"]).map(lambda name: Source(name, scheme="zoo"))
    | st.builds(Source, texts)
    | st.builds(Source, texts, texts)
)
sources = plain_sources | st.builds(replace, plain_sources, adapter=st.builds(Source, texts))
finite = st.sampled_from(
    [1e300, -1e300, 5e-324, -0.0, 0.1, 1e16, 1e22, 1e-7, 123456789.0, 1.7976931348623157e308]
) | st.floats(allow_nan=False, allow_infinity=False)
densities = st.sampled_from([1.0, 0.1, 0.5, 5e-324, 0.9999999999999999]) | st.floats(0, 1, exclude_min=True)

NAMES = ["auto", *NAMED]
templates = texts.map(lambda text: Template(text=f"{text}{{{{ messages }}}}{text}".replace("{%", "{")))


def is_whole(text: str) -> bool:
    """Whether a text holds no half of a character, as that of a token does."""
    return text.encode(errors="ignore").decode() == text


@st.composite
def token_rows(draw: st.DrawFn, models: list[Source]) -> TokenRow:
    """A setting of one token, of every kind."""
    token, kind = draw(texts.filter(is_whole)), draw(st.sampled_from(["added", "zero", "row", "other", "id"]))
    if kind in ("added", "zero"):
        return TokenRow(token, zero=kind == "zero", force=kind == "zero" and draw(st.booleans()))
    other = {"row": st.none(), "other": texts, "id": st.integers(0, 10**6)}[kind]
    return TokenRow(token, draw(st.sampled_from(models)), draw(other), force=draw(st.booleans()))


def values_of(option: Option, count: int) -> st.SearchStrategy[object]:
    """Values that an option may have in a spec of some experts."""
    if option.kind is bool:
        return st.booleans()
    if option.kind is int:
        return st.integers(int(option.least or 0), 10**9)
    number = st.floats(option.least, option.most, allow_nan=False, allow_infinity=False)
    return number | st.lists(number, min_size=count, max_size=count) if option.each else number


@st.composite
def specs(draw: st.DrawFn) -> MergeSpec:
    row = draw(st.sampled_from(list(METHODS.values())))
    count = expert_count(row, draw(st.integers(1, 3)))
    density = draw(st.lists(densities, min_size=count, max_size=count) | densities)
    room = min(
        (min(exact(d), 1 - exact(d)) for d in (density if isinstance(density, list) else [density]) if d < 1), default=1
    )
    base, experts = draw(sources), draw(st.lists(sources, min_size=count, max_size=count))
    keys = {
        "base": base,
        "experts": experts,
        "merge_method": row.name,
        "density": density,
        "epsilon": draw(st.floats(0, 0.49)) * 0.99 * float(room),
    }
    weight = st.floats(0, 1) if row.kind == "slerp" else finite
    optional = {
        "weights": st.lists(weight, min_size=count, max_size=count) | weight,
        "lambda": finite,
        "rescale": st.sampled_from(["inverse_keep", "l1", "none"]),
        "elect": st.sampled_from(["sum", "count", "none"]),
        "normalize": st.booleans(),
        "seed": st.integers(0, 2**64 - 1),
        "dtype": st.sampled_from(["float32", "float16", "bfloat16"]),
        "tokenizer": sources | st.sampled_from(["base", "union"]),
        "chat_template": sources | st.sampled_from(NAMES) | templates,
        "name": texts.map(encode),
    }
    keys |= {key: draw(values) for key, values in optional.items() if draw(st.booleans())}
    if "tokenizer" in keys and draw(st.booleans()):
        token_of = attrgetter("token")
        rows = token_rows([base, *experts])
        keys["tokens"] = draw(st.lists(rows, min_size=1, max_size=3, unique_by=token_of))
        keys["pad_to_multiple_of"] = draw(st.integers(1, 10**6))
    keys |= {o.name: draw(values_of(o, count)) for o in row.options if o.default is None or draw(st.booleans())}
    return MergeSpec.parse(keys)


def check(examples: int) -> settings:
    return settings(max_examples=examples, deadline=None, database=None, derandomize=True)


@check(150)
@given(specs())
def test_any_spec_is_its_string(spec):
    text = str(spec)
    assert MergeSpec.parse(text) == spec
    assert str(MergeSpec.parse(text)) == text
    assert MergeSpec.parse(text).digest == spec.digest


@check(150)
@given(specs())
def test_any_spec_survives_both_argument_parsers_of_lm_eval(spec):
    for read in (simple_parse_args_string, key_val_to_dict):
        assert MergeSpec.parse(**read(str(spec))) == spec


@check(100)
@given(specs(), st.booleans())
def test_any_spec_survives_its_keys_as_json_and_as_yaml(spec, effective):
    keys = spec.as_keys(effective=effective)
    assert MergeSpec.parse(keys) == spec
    assert MergeSpec.parse(json.dumps(keys)) == spec
    assert MergeSpec.parse(json.dumps(keys, ensure_ascii=False)) == spec
    assert MergeSpec.parse(yaml.safe_load(yaml.safe_dump(keys))) == spec


@check(60)
@given(specs(), specs())
def test_any_spec_whose_base_is_a_merge_survives_every_way(spec, stage):
    assume(all(row.source in (None, *spec.experts) for row in spec.tokens))  # the base is another model then
    whole = MergeSpec.parse(spec, base=Source(str(stage), scheme="merge"))
    assert whole.stages[whole.base] == stage
    for again in (
        MergeSpec.parse(str(whole)),
        MergeSpec.parse({**spec.as_keys(), "base": stage.as_keys()}),
        MergeSpec.parse(json.dumps(whole.as_keys())),
        *(MergeSpec.parse(**read(str(whole))) for read in (simple_parse_args_string, key_val_to_dict)),
    ):
        assert again == whole
    renamed = MergeSpec.parse(spec, base=Source(str(MergeSpec.parse(stage, name="other")), scheme="merge"))
    assert renamed.digest == whole.digest != spec.digest


@check(50)
@given(specs(), st.sampled_from(["none", "ties", "della", "linear"]))
def test_a_spec_reparsed_with_a_change_keeps_the_rest(spec, name):
    renamed = MergeSpec.parse(spec, name=name)
    assert renamed.digest == spec.digest
    assert renamed.name == name


@check(150)
@given(texts)
def test_any_text_survives_the_percent_encoding(text):
    assert decode(encode(text)) == text


@check(150)
@given(texts)
def test_an_encoded_text_is_never_read_as_a_value(text):
    for read in (simple_parse_args_string, key_val_to_dict):
        assert read(f"key={encode(text)}") == {"key": encode(text)}


@check(100)
@given(st.lists(finite, min_size=1, max_size=4))
def test_any_finite_weights_survive(weights):
    experts = [f"e{i}" for i in range(len(weights))]
    spec = MergeSpec.parse(base="b", experts=experts, merge_method="task_arithmetic", weights=weights)
    assert list(spec.weights) == weights
    assert MergeSpec.parse(str(spec)) == spec
    assert (
        MergeSpec.parse(
            base="b", experts=[*map("e{}:{!r}".format, range(len(weights)), weights)], method="task_arithmetic"
        )
        == spec
    )


@pytest.mark.parametrize(
    ("number", "text"),
    [(1e16, "1e16"), (1e300, "1e300"), (5e-324, "5e-324"), (-2.0, "-2"), (0.1, "0.1"), (-0.0, "0"), (1e-7, "1e-07")],
)
def test_a_number_is_its_shortest_text_without_a_plus(number, text):
    spec = MergeSpec.parse(base="b", experts="e", merge_method="task_arithmetic", weights=number)
    assert str(spec) == f"base=b,experts=e,merge_method=task_arithmetic,weights={text}"


def test_a_negative_zero_is_zero_in_the_canonical_form():
    spec = MergeSpec.parse(base="b", experts="e", merge_method="task_arithmetic", weights=-0.0)
    assert math.copysign(1, spec.at("w").weights[0]) == 1
    assert spec.digest == MergeSpec.parse(base="b", experts="e:0", merge_method="task_arithmetic").digest


@pytest.mark.parametrize("place", NASTY)
@pytest.mark.parametrize("revision", [None, "main", "1", " ", "a,b@c"])
def test_nasty_sources_survive_next_to_each_other(place, revision):
    source = Source(place, revision)
    spec = MergeSpec.parse(
        base=source, experts=[source, source], merge_method="ties", density=[0.5, 1], weights=[1, 2], name=encode(place)
    )
    assert (spec.base, spec.experts, spec.name) == (source, (source, source), place)
    assert MergeSpec.parse(str(spec)) == spec
    for read in (simple_parse_args_string, key_val_to_dict):
        assert MergeSpec.parse(**read(str(spec))) == spec
    weighted = ",".join(["base=x", "merge_method=ties", "density=0.5", f"experts={source}:0.5+{source}"])
    assert MergeSpec.parse(weighted).experts == (source, source)
    assert MergeSpec.parse(weighted).weights == (0.5, 1.0)


def test_an_expert_folder_whose_name_ends_like_a_weight_is_percent_encoded():
    spec = MergeSpec.parse(base="b", experts="models/a%3A0.5+models/a:0.5", merge_method="task_arithmetic")
    assert spec.experts == (Source("models/a:0.5"), Source("models/a"))
    assert spec.weights == (1.0, 0.5)
    assert str(spec) == "base=b,experts=models/a%3A0.5+models/a,merge_method=task_arithmetic,weights=1+0.5"


@pytest.mark.parametrize("name", ["a%20b", "50%", "a,b", " a ", "42", "none", "x=y"])
def test_a_name_survives_as_it_is(name):
    spec = MergeSpec.parse(base="b", experts="e", merge_method="linear", name=encode(name))
    assert spec.name == spec.display_name == name
    assert MergeSpec.parse(spec.as_keys()).name == MergeSpec.parse(str(spec)).name == name
