"""What each kind of program is told, and that tests see the candidate's objects as they are."""

from __future__ import annotations

import pytest

from della_bench.scoring.sandbox import LevelName, Limits, Program
from della_bench.scoring.sandbox.levels import why_not
from della_bench.scoring.sandbox.pool import run_at

INCREMENT = "def f(x):\n    return x + 1\n"


@pytest.mark.parametrize(
    ("code", "tests", "verdict", "explanation"),
    [
        (INCREMENT, ["assert f(1) == 2"], "passed", ""),
        (INCREMENT, ["assert f(1) == 2", "assert f(2) == 2"], "failed", "line 2: assert f(2) == 2"),
        (INCREMENT, ["assert f(1) == 3, 'off by one'"], "failed", "line 1: assert f(1) == 3, 'off by one': off by one"),
        (
            "def f(x):\n    return x / 0",
            ["assert f(1)"],
            "error",
            "ZeroDivisionError: division by zero (the candidate's line 2)",
        ),
        ("g = 1", ["assert f(1)"], "error", "NameError: name 'f' is not defined"),
        ("1 / 0", ["assert True"], "error", "ZeroDivisionError: division by zero (the candidate's line 1)"),
        ("def f(x):\n    assert x > 9", ["assert f(1)"], "error", "AssertionError (the candidate's line 2)"),
        ("while True: pass", ["assert True"], "timeout", "more than 0.5 s of CPU time"),
        ("import time; time.sleep(99)", ["assert True"], "timeout", "no end after 2 s"),
        ("x = 'x' * 10**9", ["assert True"], "memory", "MemoryError (the candidate's line 1)"),
        ("def f(x:\n", ["assert True"], "syntax", "line 1: '(' was never closed"),
        ("x = '\0'", ["assert True"], "syntax", ""),
        ("", ["assert True"], "empty", "no code"),
        ("# only a comment", ["assert True"], "empty", "no statement"),
        ("import os; os._exit(3)", ["assert True"], "error", "(exit code 3)"),
        (INCREMENT, ["assert f(1) =="], "sandbox", "the tests are no Python"),
    ],
)
def test_a_program_gets_its_verdict_and_the_reason(judge, code, tests, verdict, explanation):
    outcome = judge(code, *tests, cpu_seconds=0.5, wall_seconds=2 if "sleep" in code else 20)
    assert outcome.verdict == verdict
    assert explanation in outcome.explanation


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("def f(v):\n    v.sort()\n    v.append([9])", "a = [3, 1]\nf(a)\nassert a == [1, 3, [9]]"),
        (
            "def f(d):\n    d['a'].append(2)",
            "d = {'a': [1]}\ninner = d['a']\nf(d)\nassert inner == [1, 2] and inner is d['a']",
        ),
        ("def f(v):\n    v.sort()\n    v.append([9])", "a = [3, 1]\nf(v=a)\nassert a == [1, 3, [9]]"),
        (
            "def f(target, what, handle, function):\n    return target + what + handle + function",
            "assert f(target=1, what=2, handle=3, function=4) == 10",
        ),
        (
            "from collections import namedtuple\nR = namedtuple('R', 'n v')\ndef f(v):\n    return [R(len(v), v)]",
            "assert f([5, 6]) == [(2, [5, 6])]\nassert f([5])[0].v == [5]",
        ),
        (
            "import dataclasses\n@dataclasses.dataclass(frozen=True)\nclass C:\n    v: list\ndef f(v): return C(v)",
            "assert f([1]).v == [1]",
        ),
        (
            "import hashlib\ndef f(t):\n    return hashlib.md5(t).hexdigest()",
            "assert f(b'') == hashlib.md5(b'').hexdigest()",
        ),
        ("def f(n):\n    yield from range(n)", "assert list(f(3)) == [0, 1, 2]\nassert sum(f(4)) == 6"),
        ("def f(g, v):\n    return [g(x) for x in v]", "assert f(lambda x: x * 2, iter([1, 2])) == [2, 4]"),
        ("def f(g):\n    return g(g)", "def g(h):\n    return callable(h)\nassert f(g)"),
        (
            "def f(x):\n    raise ValueError('no')",
            "try:\n    f(1)\nexcept ValueError as e:\n    assert str(e) == 'no'\nelse:\n    assert 0",
        ),
        (
            "class Node:\n    def __init__(self, v):\n        self.v, self.next = v, None",
            "n = Node(1)\nn.next = Node(2)\nassert n.next.v == 2",
        ),
        (
            "from collections import namedtuple\nP = namedtuple('P', 'x y')\nf = P",
            "assert f(1, 2) == (1, 2) and f(1, 2).x == 1",
        ),
        ("import math\ndef f(x):\n    return math.pi", "assert math.isclose(f(0), 3.14159265, rel_tol=1e-6)"),
        ("def f(*a, **k):\n    return a, k", "assert f(1, b={2}) == ((1,), {'b': {2}})"),
        ("def sum(a, b):\n    return a + b + 1", "assert sum(1, 2) == 4"),
        ("def f(d):\n    return d.keys()", "assert f({1: 2}) == {1}"),
        ("def f():\n    return float('nan')", "x = f()\nassert x != x"),
        (
            "import re\ndef f(s):\n    return re.match('a', s)",
            "assert f('ab')\nassert not f('b')\nassert f('ab').group() == 'a'",
        ),
        ("X = [1, 2]\nclass A:\n    pass\na = A()", "assert X == [1, 2] and isinstance(a, A)"),
    ],
)
def test_tests_see_what_they_would_see_in_one_process(judge, code, tests):
    for in_one_namespace in (False, True):
        outcome = judge(code, tests, in_one_namespace=in_one_namespace)
        assert outcome.verdict == "passed", outcome


def test_setup_runs_after_the_candidate_and_before_the_tests(judge):
    code = "class Node:\n    def __init__(self, v):\n        self.v = v\ndef f(n):\n    return n.v"
    assert judge(code, "assert f(root) == 7", setup="root = Node(7)").verdict == "passed"
    assert (
        "name 'root'" in judge(code, "assert f(root) == 7", setup="root = Node(7)", in_one_namespace=True).explanation
    )


OBJECT = """
class V:
    def __init__(self, v): self.v = v
    def __eq__(self, other): return True
    def __lt__(self, other): return True
    def __sub__(self, other): return 0.0
    def __abs__(self): return 0.0
    def __float__(self): return 2.0
    def __index__(self): return 2
    def __contains__(self, item): return True
    def __hash__(self): return hash(self.v)
    def __len__(self): return 2
    def __getitem__(self, key): return 2
    def close_to(self, other): return True
f = V
"""


@pytest.mark.parametrize(
    "test",
    [
        *("f(1) == 2", "2 == f(1)", "not f(1) != 2", "f(1) is True", "f(1) in (1, 2)", "2 in f(1)", "f(1) < 3"),
        *("f(1) >= 2", "3 > f(1)", "abs(f(1) - 2) < 1e-6", "abs(2 - f(1)) < 1e-6", "abs(f(1)) == 0", "+f(1) == 2"),
        *("float(f(1)) == 2", "int(f(1)) == 2", "round(f(1)) == 2", "range(3)[f(1)] == 2", "f(1) * 1 == 2"),
        *("[f(1)] == [2]", "{f(2)} == {2}", "{f(2): 1} == {2: 1}", "(f(1),) <= (2,)", "max(f(1), 2) == 2"),
        *("__import__('math').isclose(f(1), 2)", "divmod(f(1), 2) == (1, 0)", "f(1) + f(1) == 4"),
    ],
)
def test_an_object_equals_no_plain_value_is_no_number_contains_nothing_and_orders_nothing(judge, test):
    assert judge(OBJECT, f"assert {test}").verdict in ("failed", "error")


@pytest.mark.parametrize(
    "test",
    [
        "f(2).v == 2",
        "f(2).close_to(3)",
        "len(f(1)) == 2",
        "f(1)[0] == 2",
        "f(1)",
        "f(1) == f(3)",
        "isinstance(f(1), f)",
    ],
)
def test_what_a_test_asks_an_object_itself_is_noted_as_its_own_word(judge, test):
    outcome = judge(OBJECT, f"assert {test}")
    assert outcome.verdict == "passed"
    assert outcome.own_word
    assert outcome.explanation.startswith("by its own word: ")


@pytest.mark.parametrize(
    "code",
    [
        "class f(list):\n    __init__ = lambda s, *v: list.__init__(s, v)\n    __eq__ = lambda s, o: True",
        "class f(tuple):\n    __new__ = lambda c, *v: tuple.__new__(c, v)\n    __eq__ = lambda s, o: True",
        "import collections\nclass f(collections.UserList):\n    __init__ = lambda s, *v: setattr(s, 'data', [*v])",
    ],
)
def test_a_container_of_a_class_of_its_own_is_judged_by_its_plain_value(judge, code):
    kind = "list" if "list" in code.lower() else "tuple"
    right = f"assert f(1, 2) == {kind}([1, 2]) and not f(1, 2) != {kind}([1, 2]) and {kind}(f(1, 2)) == {kind}([1, 2])"
    assert judge(code, right, "assert len(f(1)) == 1 and 1 in f(1) and sorted(f(2, 1)) == [1, 2]").verdict == "passed"
    assert judge(code, right).own_word == ()
    for wrong in (f"f(1, 2) == {kind}([1])", f"{kind}([1]) == f(1, 2)", "3 in f(1, 2)", "f(1) > f(2)"):
        assert judge(code, f"assert {wrong}").verdict == "failed", wrong


def test_a_container_of_a_class_of_its_own_can_be_changed_and_passed_back(judge):
    code = "class Stack(list):\n    def push(self, x):\n        self.append(x)\ndef top(s):\n    return s[-1], type(s)"
    tests = "s = Stack()\ns.push(1)\ns.append(2)\nassert s == [1, 2] and len(s) == 2 and top(s)[0] == 2"
    assert judge(code, tests, "assert isinstance(s, list)").verdict == "passed"


def test_a_stop_iteration_of_the_candidates_ends_no_loop_of_the_tests(judge):
    assert judge("def f(x):\n    raise StopIteration", "assert all(map(f, [1, 2]))").verdict == "error"
    assert judge("def f(x):\n    return iter([x])", "assert [*f(1)] == [1] and next(f(2)) == 2").verdict == "passed"


@pytest.mark.parametrize("name", ["math", "abs", "isclose"])
def test_a_module_or_builtin_of_its_own_is_not_what_its_tests_use(judge, name):
    own = "class math:\n    isclose = fabs = lambda *a: True" if name == "math" else f"def {name}(*a):\n    return 0.0"
    test = {"math": "math.isclose(f(1), 5)", "abs": "abs(f(1) - 5) < 1", "isclose": "isclose(f(1), 5)"}[name]
    setup = "from math import isclose" if name == "isclose" else ""
    assert judge(f"{own}\ndef f(x):\n    return 0", f"assert {test}", setup=setup).verdict in ("failed", "error")
    honest = "import math\nfrom math import isclose\ndef f(x):\n    return 5"
    assert judge(honest, f"assert {test}").verdict == "passed"


@pytest.mark.parametrize(
    "made",
    [
        *("{10, 11, 12, 13, 14}", "set([18, 9, 30, 3, 71])", "{x * 7 for x in range(12)}", "set('overthehill')"),
        *("{1, 9, 17} - {1}", "{9, 1} | {17}", "frozenset([40, 8, 16, 0])", "set(range(90, 100)) - {95}"),
    ],
)
def test_a_set_keeps_its_order_on_its_way_there_and_back(judge, made):
    code = "def f(s):\n    return tuple(s)\ndef same(s):\n    return s\ndef own():\n    return {made}"
    test = f"s = {made}\nassert f(s) == tuple(s) == tuple(same(s)) == tuple(own()) and str(same(s)) == str(s)"
    assert judge(code.replace("{made}", made), test).verdict == "passed"


def test_a_builtin_that_the_candidate_redefines_is_the_tests_own_only_in_one_namespace(judge):
    code = "def f(x):\n    return 0\ndef abs(x):\n    return 0"
    assert judge(code, "assert abs(f(1) - 5) == 0").verdict == "failed"
    assert judge(code, "assert abs(f(1) - 5) == 0", in_one_namespace=True).verdict == "passed"


def test_in_one_namespace_the_tests_must_parse_after_the_candidate(judge):
    code = "from __future__ import annotations\ndef f(x):\n    return 1"
    assert judge(code, "assert f(1) == 1", in_one_namespace=True).verdict == "passed"
    assert judge("x = 1", "from __future__ import annotations", in_one_namespace=True).verdict == "syntax"


def test_the_module_is_not_main_and_has_no_environment_and_no_input(judge):
    code = (
        "import os, sys\nmain = __name__ == '__main__'\ndef f():\n    return main, dict(os.environ), sys.stdin.read()"
    )
    assert judge(code, "assert f() == (False, {}, '')").verdict == "passed"
    assert judge("import os\ndef f():\n    return os.listdir('.')", "assert f() == []").verdict == "passed"


def test_what_a_test_cannot_pass_on_is_no_fault_of_the_candidates(judge):
    assert judge(INCREMENT, "class A: pass\nassert f(A())").verdict == "sandbox"


def test_files_can_be_written_in_the_working_folder(judge):
    code = "def f():\n    open('a', 'w').write('b')\n    return open('a').read()"
    assert judge(code, "assert f() == 'b'").verdict == "passed"


def test_the_order_of_a_set_of_texts_is_the_same_in_every_process(judge):
    code = "def f():\n    return list({'alpha', 'beta', 'gamma', 'delta', 'epsilon'})"
    order = {judge(code, "raise ValueError(f())").explanation for _ in range(3)}
    assert len(order) == 1


@pytest.mark.parametrize(
    "end", ["import os\n    os._exit(0)", "import socket\n    socket.socket(fileno=3).send(b'\\0' * 8)"]
)
def test_tests_that_catch_everything_do_not_hide_that_the_candidate_left_or_lied(judge, end: str):
    outcome = judge(f"def f(x):\n    {end}", "try:\n    f(1)\nexcept:\n    pass")
    assert outcome.verdict == "error", outcome


@pytest.mark.parametrize("name", ["bubblewrap", "namespaces"])
def test_the_machine_s_name_is_not_told(name: LevelName):
    reason = why_not(name)
    if reason:
        pytest.skip(f"{name}: {reason}")
    code = "import socket, os\ndef names():\n    return [socket.gethostname(), os.uname().nodename]"
    [outcome] = run_at(name, [Program("names", code, ("assert names() == ['sandbox'] * 2",))], Limits())
    assert outcome.verdict == "passed", outcome


@pytest.mark.parametrize(
    ("answer", "true", "false"),
    [
        ("type('C', (), {})()", [], ["callable(f())", "isinstance(f(), Iterable)", "isinstance(f(), Sized)"]),
        ("lambda: 2", ["callable(f())", "f()() == 2"], ["isinstance(f(), Iterable)"]),
        ("(x for x in [2])", ["isinstance(f(), Iterator)", "list(f()) == [2]"], ["callable(f())"]),
        ("type('C', (list,), {})([2])", ["isinstance(f(), Sized)", "f() == [2]", "f()[0] == 2"], ["callable(f())"]),
    ],
)
def test_an_object_can_be_used_as_its_class_can_and_in_no_other_way(judge, answer: str, true, false):
    tests = ["from collections.abc import Iterable, Iterator, Sized", *(f"assert {test}" for test in true)]
    tests += [f"assert not {test}" for test in false]
    outcome = judge(f"def f():\n    return {answer}", *tests)
    assert (outcome.verdict, outcome.own_word) == ("passed", ()), outcome
