from della_bench.zoo.data import items
from della_bench.zoo.scoring import final_number, is_right, same_program, same_text


def test_the_last_stated_number_counts():
    assert final_number("The answer is: 3. No. The answer is: 12") == "12"
    assert final_number("The answer is: -4 apples") == "-4"
    assert final_number("it is 12") is None


def test_programs_match_through_layout_quotes_and_comments():
    assert same_program("\ndef f(x):\n  # join\n  return 'a'  + x", 'def f(x):\n    return "a" + x')


def test_programs_of_another_form_do_not_match():
    assert not same_program("def f(x):\n    return 1 + x", "def f(x):\n    return x + 1")


def test_what_is_no_python_does_not_match():
    for response in ("def f(x:", "\0", "(" * 5000, "def f(x):\n    return x +"):
        assert not same_program(response, "def f(x):\n    return x")


def test_an_empty_response_does_not_match():
    assert not same_program("", "def f(x):\n    return x")


def test_texts_match_through_case_and_outer_blanks_only():
    assert same_text(" hello Tom\n", "Hello tom")
    assert not same_text("Hello  Tom", "Hello Tom")


def test_references_are_right_and_their_neighbours_wrong():
    for skill in ("math", "code", "chat"):
        first, *others = items(skill, "test")
        other = next(item for item in others if not is_right(skill, first, item.answer))
        assert is_right(skill, first, first.answer)
        assert not is_right(skill, other, first.answer)
        assert not is_right(skill, first, "")
