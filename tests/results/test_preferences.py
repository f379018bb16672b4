"""The verdict of a judge of two answers in words, and which answer it saw in which place."""

from __future__ import annotations

import pytest

from della_bench.results.preferences import preference_words
from della_bench.results.schema import Item

ROW = {"doc": {"generator": "text_davinci_003"}}


def item(value: float | None, reply: str = "") -> Item:
    return Item(schema=1, doc_id=0, doc_hash="", filter="", value=value, verdict="", answer="", explanation=reply)


def ranked(first: int) -> str:
    return f"[{{'model': 'model_{first}', 'rank': 1}}, {{'model': 'model_{3 - first}', 'rank': 2}}]"


@pytest.mark.parametrize(
    ("value", "reply", "words"),
    [
        (1.0, ranked(1), "this answer to the baseline's (text_davinci_003). It saw this answer as the first and"),
        (1.0, ranked(2), "this answer to the baseline's (text_davinci_003). It saw this answer as the second and"),
        (0.0, ranked(1), "the baseline's (text_davinci_003) to this answer. It saw this answer as the second and"),
        (0.0, ranked(2), "the baseline's (text_davinci_003) to this answer. It saw this answer as the first and"),
        (0.87, "m", "with a probability of 0.87. It saw this answer as the first"),
        (0.13, "m", "with a probability of 0.87. It saw this answer as the second"),
        (0.2, "M", "with a probability of 0.80. It saw this answer as the first"),
        (0.5, ranked(1), "equally good"),
    ],
)
def test_preference_and_reply_tell_the_places(value: float, reply: str, words: str) -> None:
    assert words in preference_words(item(value, reply), ROW)


@pytest.mark.parametrize("reply", ["", "no ranking", ranked(1) + ranked(2), "m or M"])
def test_a_reply_that_names_no_place_leaves_the_places_out(reply: str) -> None:
    told = preference_words(item(1.0, reply), ROW)
    assert told == "The judge preferred this answer to the baseline's (text_davinci_003)."


def test_nothing_is_said_of_an_unscored_item() -> None:
    assert preference_words(item(None, ranked(1)), ROW) == ""


def test_a_baseline_without_a_name_is_called_the_baseline() -> None:
    assert "the baseline's to this answer" in preference_words(item(0.0), {})
