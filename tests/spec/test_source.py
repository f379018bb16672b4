"""A source's text, and what of it is syntax."""

import pytest

from della_bench.spec import Source
from della_bench.spec.source import decode, encode


@pytest.mark.parametrize(
    ("text", "source"),
    [
        ("org/name", Source("org/name")),
        ("gpt2", Source("gpt2")),
        ("org/name@main", Source("org/name", "main")),
        ("org/name@refs/pr/3", Source("org/name", "refs/pr/3")),
        ("  org/name ", Source("org/name")),
        ("/models/a", Source("/models/a")),
        ("/models/a/", Source("/models/a/")),
        ("./a", Source("./a")),
        ("../a", Source("../a")),
        ("~/a", Source("~/a")),
        (".", Source(".")),
        ("zoo:math", Source("math", scheme="zoo")),
        ("a%2Cb", Source("a,b")),
        ("a%2Bb", Source("a+b")),
        ("50%25", Source("50%")),
        ("100%", Source("100%")),
        ("zoo%3Amath", Source("zoo:math")),
        ("org/name::org/lora", Source("org/name", adapter=Source("org/lora"))),
        ("org/name@v1::org/lora@v2", Source("org/name", "v1", adapter=Source("org/lora", "v2"))),
        ("/models/a@b :: ./lora", Source("/models/a@b", adapter=Source("./lora"))),
        ("zoo:math::7", Source("math", scheme="zoo", adapter=Source("7"))),
        ("merge:base%3Da%2Cexperts%3Db", Source("base=a,experts=b", scheme="merge")),
        ("merge:base%3Da::lora", Source("base=a", scheme="merge", adapter=Source("lora"))),
    ],
)
def test_a_source_is_a_folder_a_hub_id_or_of_the_zoo(text, source):
    assert Source.parse(text) == source


@pytest.mark.parametrize("text", ["/models/a@b", "./a@b", "../a@b", "~/a@b", "~me/a@b"])
def test_an_at_sign_in_what_starts_like_a_folder_is_its_own(text):
    assert Source.parse(text) == Source(text)
    assert Source.parse(str(Source(text))) == Source(text)


def test_a_percent_encoded_at_sign_is_no_revision():
    assert Source.parse("models/a%40b") == Source("models/a@b")
    assert Source.parse("models/a%40b@v1") == Source("models/a@b", "v1")
    assert Source.parse("a@b@c") == Source("a@b", "c")


@pytest.mark.parametrize(
    "text", ["", "   ", "@", "@main", "org/name@", "zoo:", "zoo:maths", "a::", "::a", "a:: ", "merge:"]
)
def test_half_a_source_is_refused(text):
    with pytest.raises(ValueError, match=r"cannot be empty|org/name@revision|zoo|model::adapter|missing after merge:"):
        Source.parse(text)


@pytest.mark.parametrize(("text", "told"), [("a::b::c", "one adapter at most"), ("a::zoo:math", "a whole model")])
def test_behind_a_model_stands_one_adapter(text, told):
    with pytest.raises(ValueError, match=told):
        Source.parse(text)


def test_the_nearest_model_of_the_zoo_is_named():
    with pytest.raises(ValueError, match="did you mean 'math'"):
        Source.parse("zoo:maths")


def test_broken_percent_encoding_says_so():
    with pytest.raises(ValueError, match="UTF-8"):
        Source.parse("a%FF")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (Source("org/name"), "org/name"),
        (Source("org/name-1.5_b"), "org/name-1.5_b"),
        (Source("org/name", "0b3f9e1"), "org/name@0b3f9e1"),
        (Source("org/name", "1234567"), "org/name@1234567"),
        (Source("/a b/c"), "/a b/c"),
        (Source("/ä/模型"), "/ä/模型"),
        (Source("a+b"), "a%2Bb"),
        (Source("a:0.5"), "a%3A0.5"),
        (Source("zoo:math"), "zoo%3Amath"),
        (Source("math", scheme="zoo"), "zoo:math"),
        (Source("a@b"), "a%40b"),
        (Source("50%"), "50%25"),
        (Source("a::b"), "a%3A%3Ab"),
        (Source("merge:a"), "merge%3Aa"),
        (Source("1", adapter=Source("2")), "%31::%32"),
        (Source("base=a@b,experts=c::d", scheme="merge"), "merge:base%3Da%40b%2Cexperts%3Dc%3A%3Ad"),
        (Source(" a "), "%20a%20"),
    ],
)
def test_only_what_must_be_is_percent_encoded(source, text):
    assert str(source) == text
    assert Source.parse(text) == source


@pytest.mark.parametrize("char", ",+=:%@")
def test_every_reserved_character_is_percent_encoded(char):
    assert encode(f"a{char}b") == f"a%{ord(char):02X}b"


@pytest.mark.parametrize("char", "[](){}'\"#&|;*?$<>!`\t\n\r\x00\x0b\u00a0\u2028")
def test_what_a_parser_or_a_shell_could_take_for_syntax_is_percent_encoded(char):
    text = f"a{char}b"
    assert char not in encode(text)
    assert decode(encode(text)) == text


@pytest.mark.parametrize(
    "text",
    ["1", "-1", "1.5", "1e5", ".5", "5.", "nan", "-inf", "Infinity", "1_000", "0x1F", "-0x1f", "0b1", "-0o7", "True",
     "FALSE", "None", "none", "٣", "½", "一", "1j", "- 5", "1 - 2j", "-1-2J", "..."],
)  # fmt: skip
def test_what_reads_as_a_value_gets_its_first_character_encoded(text):
    assert encode(text).startswith("%")
    assert encode(text).endswith(text[1:])
    assert decode(encode(text)) == text


@pytest.mark.parametrize("text", ["7b", "2024-01-01", "1-2", "0xabc/model", "truth", "nano", "...a", "e5", "llama-3"])
def test_what_only_starts_like_a_value_stays_readable(text):
    assert encode(text) == text
