"""Reading a judge's verdict out of its reply, and making one of several votes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Sequence

from della_bench.judging.json_types import JsonObject, as_text, parse_json
from della_bench.judging.reply import Reply

__all__ = ["majority", "read_json_verdict", "read_tag", "unreadable_because", "verdict_schema"]

# A verdict is short. The bounds keep reading linear on any text: no search goes further than a few characters.
_TAG = re.compile(r"\[\s{0,5}\[([^\[\]]{0,80})\]\s{0,5}\]")
_OPENING = re.compile(r"\[\s{0,5}\[")
_DECORATION = re.compile(r"[*_`~'\"\s]+")
_PREFIX = re.compile(
    r"^(?:(?:my|the|final|overall)\s+)*(?:answer|verdict|label|choice|grade|judge?ment)(?:\s+is)?\s*[:=-]?\s*",
    re.IGNORECASE,
)
# A label behind the last tag that is named in another form; "the answer is A good one" names none.
_AFTERTHOUGHT = (
    r"\[[\s*_`]{{0,5}}(?:{labels})[\s*_`]{{0,5}}\]"
    r"|\b(?i:answer|verdict|judge?ment)(?i:\s+is)?\s{{0,5}}[:=]?[\s*_`\"'(]{{0,5}}(?:{labels})(?!\w)(?!\s+[a-z])"
)

# Why a reply ended that is whole, in the words of several servers.
_WHOLE = frozenset({"", "stop", "eos", "eos_token", "end_turn", "stop_sequence", "stop_token", "complete", "finished"})


def read_tag(text: str, labels: Collection[str]) -> str | None:
    """Return the last [[tag]] of a reply, None where there is none or it is none of `labels`.

    What the judge quotes or weighs stands before its verdict: earlier tags never count, and a last one that was not
    offered, or that is left open, makes the whole reply unreadable. So does a label that is named behind it in another
    form ("[B]", "verdict: B"), since it may be the verdict.

    A tag is read through its decoration: `[[**B**]]`, `[[Answer: B]]`, escaped and full-width brackets, characters of
    no width.
    """
    plain = _without_decoration(text)
    tags = list(_TAG.finditer(plain))
    if not tags:
        return None
    behind = plain[tags[-1].end() :]
    if _OPENING.search(behind):
        return None
    offered = "|".join(map(re.escape, labels))
    if re.search(_AFTERTHOUGHT.format(labels=offered), behind):
        return None
    label = _PREFIX.sub("", _DECORATION.sub(" ", tags[-1][1]).strip()).strip(" .:()")
    return label if label in labels else None


def _without_decoration(text: str) -> str:
    """Return `text` with compatible characters made plain ones, and without what has no width or only marks words up.

    Markdown's stars between brackets ("[**[B]**]") and its escapes of brackets are such marks.
    """
    plain = unicodedata.normalize("NFKC", text).translate(_BRACKETS)
    if not plain.isascii():
        plain = "".join(each for each in plain if unicodedata.category(each) != "Cf")
    plain = re.sub(r"\\{1,2}(?=[\[\]])", "", plain)
    return re.sub(r"(?<=[\[\]])[*_`]{1,3}(?=[\[\]])", "", plain)


_BRACKETS = str.maketrans({"\N{LEFT BLACK LENTICULAR BRACKET}": "[", "\N{RIGHT BLACK LENTICULAR BRACKET}": "]",
                           "\N{MATHEMATICAL LEFT WHITE SQUARE BRACKET}": "[[",
                           "\N{MATHEMATICAL RIGHT WHITE SQUARE BRACKET}": "]]"})  # fmt: skip


def read_json_verdict(text: str, labels: Collection[str]) -> tuple[str | None, str]:
    """Return (verdict, explanation) of a reply that is one JSON object; (None, "") where it is not."""
    try:
        value = parse_json(text)
    except ValueError:
        return None, ""
    if not isinstance(value, dict):
        return None, ""
    verdict, explanation = value.get("verdict"), value.get("explanation")
    return (verdict if isinstance(verdict, str) and verdict in labels else None), as_text(explanation)


def verdict_schema(labels: Sequence[str]) -> JsonObject:
    """Return the `response_format` of a reply that explains first and then names one of `labels`."""
    properties = {"explanation": {"type": "string"}, "verdict": {"type": "string", "enum": list(labels)}}
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "verdict", "strict": True, "schema": schema}}


def unreadable_because(reply: Reply) -> str | None:
    """Return why no verdict may be read out of a reply, whatever it says; None where it is whole."""
    if reply.refused:
        return "the judge refused"
    if reply.finish_reason == "length":
        return "the judge's reply was cut short"  # its last tag may be a quotation
    if reply.finish_reason is not None and reply.finish_reason.lower() not in _WHOLE:
        # By an error, or by another server's word for a cut.
        return f"the judge's reply ended by {reply.finish_reason[:40]!r}"
    return None


def majority(votes: Sequence[bool | None]) -> bool | None:
    """Return what more than half of all `votes` say (None: an unreadable one); None where nothing has that many."""
    for side in (True, False):
        if 2 * sum(vote is side for vote in votes) > len(votes):
            return side
    return None
