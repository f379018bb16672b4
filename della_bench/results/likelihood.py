"""What lm-eval logs of tasks that ask for log-likelihoods instead of texts: numbers of documents, and choices.

A perplexity is not a share, is best where it is low, and is made of all documents together. Its inverse is a share from
0 to 1 that every document has: the geometric mean of the probability of a byte (word, target). Numbers of such a task
are `1/byte_perplexity` and the like, the mean over the documents, with intervals and paired tests as for any other.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

__all__ = ["choices_of", "inverse_perplexity", "is_inverse", "most_likely", "share_of"]

_INVERSE = "1/"
# Metrics of lm-eval that are made of a document's log-likelihood and its length, the preferred one first.
_PERPLEXITIES = {
    "byte_perplexity": "byte_perplexity",
    "bits_per_byte": "byte_perplexity",
    "word_perplexity": "word_perplexity",
    "perplexity": "perplexity",
}


def inverse_perplexity(metrics: Mapping[str, object]) -> str | None:
    """Return the name of the number of a task whose metrics are perplexities alone, None where it has none."""
    return next((f"{_INVERSE}{name}" for metric, name in _PERPLEXITIES.items() if metric in metrics), None)


def is_inverse(metric: str) -> bool:
    """Return whether a number is the inverse of a perplexity."""
    return metric.startswith(_INVERSE)


def share_of(row: Mapping[str, object], metric: str) -> object:
    """Return the value of a logged row for a metric, also for the inverse of a perplexity; None where it has none."""
    if not is_inverse(metric):
        return row.get(metric)
    for name, inverted in _PERPLEXITIES.items():
        if f"{_INVERSE}{inverted}" == metric and name in row:
            found = row[name]
            likelihood, length = (found[0], found[1]) if isinstance(found, list) and len(found) == 2 else (found, 1)
            if isinstance(likelihood, (int, float)) and isinstance(length, (int, float)) and length > 0:
                return math.exp(min(0.0, likelihood / length))
    return None


def choices_of(row: Mapping[str, object]) -> list[tuple[str, float]]:
    """Return the texts that a row asked the log-likelihoods of, each with it in nats; none where texts were asked."""
    arguments, answers = row.get("arguments"), row.get("filtered_resps")
    asked = list(arguments.values()) if isinstance(arguments, dict) else arguments
    if not isinstance(asked, list) or not isinstance(answers, list) or len(asked) != len(answers):
        return []
    found = []
    for given, answer in zip(asked, answers, strict=True):
        texts = list(given.values()) if isinstance(given, dict) else given
        pair = isinstance(answer, list) and len(answer) == 2
        if not pair or not isinstance(texts, list) or len(texts) != 2 or not isinstance(texts[1], str):
            return []
        try:
            found.append((texts[1], float(answer[0])))  # lm-eval logs numbers as texts
        except (TypeError, ValueError):
            return []
    return found


def most_likely(choices: Sequence[tuple[str, float]], metric: str) -> str | None:
    """Return which of a row's choices counts as its answer, None for a single one: acc_norm's is per character."""
    if len(choices) < 2:
        return None
    by_length = metric == "acc_norm"
    text, _ = max(choices, key=lambda each: each[1] / (max(1, len(each[0].strip())) if by_length else 1))
    return text.strip()
