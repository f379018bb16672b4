"""Judges as data: a folder with judge.yaml and prompt files says who is asked, with which words, at what price.

    judge.yaml
        benchmark: gsm8k
        version: "1"                                  raised whenever verdicts could change
        model: gpt-4.1-2025-04-14                     what the server is asked for
        parameters: {temperature: 0, max_tokens: 800} sent with every request as they are
        prompt: {system: system.md, user: user.md}    files beside it; system may be left out
        verdict: {read: tag, correct: A, wrong: B}    the last [[A]] or [[B]]; or read: json_schema
        price: {input: 2.00, output: 8.00, batch: 0.5}  dollars per million tokens; a batch costs this share
        ends: 2027-01-14                              announced end of the model
        attempts: 3                                   tries until a reply can be read
        typical_completion_tokens: 300                for estimates

The prompts' placeholders are {question}, {reference}, {response}, {correct}, {wrong} and {fence}; the last is a word
that stands in none of the texts and marks where each begins and ends.
"""

from __future__ import annotations

import datetime
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from della_bench.errors import JudgeError
from della_bench.judging.cost import Price
from della_bench.judging.gsm8k.find import EXACT, FILE, find_judge
from della_bench.judging.json_types import JsonObject, Message
from della_bench.judging.prices import known
from della_bench.suggest import nearest

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

__all__ = ["PLACEHOLDERS", "Judge", "JudgeConfig", "PromptFiles", "load_judge"]

PLACEHOLDERS = ("question", "reference", "response", "correct", "wrong", "fence")
_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")
_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")

_DECIDED = {
    "model": "it has its own key",
    "messages": "they are made from the prompt files",
    "stream": "replies are read whole",
    "n": "ask for several `votes`",
    "response_format": "take verdict: {read: json_schema}",
}

_Dollars = Annotated[Decimal, Field(ge=0)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PromptFiles(_Strict):
    """Names of the prompt files, beside judge.yaml."""

    user: str
    system: str | None = None


class VerdictConfig(_Strict):
    """How a reply is read, and the labels that it may give."""

    read: Literal["tag", "json_schema"] = "tag"
    correct: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "A"
    wrong: Annotated[str, Field(pattern=r"^[A-Za-z]+$")] = "B"

    @model_validator(mode="after")
    def _labels_differ(self) -> VerdictConfig:
        if self.correct == self.wrong:
            raise ValueError(f"correct and wrong are both {self.correct!r}")
        return self


class PriceConfig(_Strict):
    """Dollars per million tokens, and the share of them that a batch costs."""

    input: _Dollars
    output: _Dollars
    batch: Annotated[Decimal, Field(gt=0, le=1)] = Decimal("0.5")


class JudgeConfig(_Strict):
    """What judge.yaml holds; this module's text says what each key means."""

    benchmark: Literal["gsm8k"]
    version: str
    model: Annotated[str, Field(min_length=1)]
    prompt: PromptFiles
    parameters: JsonObject = {}
    verdict: VerdictConfig = VerdictConfig()
    price: PriceConfig | None = None
    ends: datetime.date | None = None
    attempts: Annotated[int, Field(ge=1, le=10)] = 3
    typical_completion_tokens: Annotated[int, Field(ge=1)] = 300

    @field_validator("parameters")
    @classmethod
    def _own_parameters(cls, value: JsonObject) -> JsonObject:
        if refused := [f"{name} ({_DECIDED[name]})" for name in value if name in _DECIDED]:
            raise ValueError("not taken: " + ", ".join(refused))
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"not JSON: {error}") from None
        return value


@dataclass(frozen=True)
class Judge:
    """A judge, loaded: its name, its configuration and the texts of its prompts."""

    name: str
    config: JudgeConfig
    user: str
    system: str | None

    @property
    def labels(self) -> tuple[str, str]:
        """The labels of a correct and a wrong answer, as they are when nothing is swapped."""
        return self.config.verdict.correct, self.config.verdict.wrong

    @cached_property
    def version(self) -> str:
        """The configuration's version, and a digest of all that can change a verdict."""
        decides = {"benchmark", "model", "parameters", "verdict"}
        config = self.config.model_dump(mode="json", include=decides)
        text = json.dumps([config, self.user, self.system], sort_keys=True)
        return f"{self.config.version}+{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    @property
    def price(self) -> Price | None:
        """The price of the model's tokens, None where it is not known."""
        price = self.config.price
        return None if price is None else Price(price.input, price.output, price.batch)

    def ended(self, today: datetime.date) -> str | None:
        """Return a warning where the announced end of the model has come."""
        if self.config.ends is None or today < self.config.ends:
            return None
        return (
            f"judge {self.name}: the end of {self.config.model} was announced for {self.config.ends}; where it is "
            "gone, take another judge, and do not compare the two judges' numbers"
        )

    def with_model(self, model: str, *, alias: bool) -> Judge:
        """Return the judge asking for another model, at that model's known price; `alias`: only its name differs, so
        that price and end stay.
        """
        if model == self.config.model:
            return self
        if alias:
            return replace(self, config=self.config.model_copy(update={"model": model}))
        slug = re.sub(r"[^\w.+-]+", "_", model).strip("_")
        facts = known(model)
        update = {"model": model, "price": None, "ends": facts.ends if facts else None}
        made = replace(self, name=f"{self.name}-{slug}", config=self.config.model_copy(update=update))
        return made.with_price(facts.price) if facts else made

    def with_price(self, price: Price) -> Judge:
        """Return the judge with another price of its model's tokens."""
        config = PriceConfig(input=price.input, output=price.output, batch=price.batch)
        return replace(self, config=self.config.model_copy(update={"price": config}))

    def request(self, question: str, reference: str, response: str, *, swapped: bool = False) -> JsonObject:
        """Return the request that has one response judged; `swapped`: the labels have changed places."""
        from della_bench.judging.gsm8k.verdict import verdict_schema

        messages = self.messages(question, reference, response, swapped=swapped)
        request: JsonObject = {"model": self.config.model, "messages": messages, **self.config.parameters}
        if self.config.verdict.read == "json_schema":
            request["response_format"] = verdict_schema(self.labels)
        return request

    def messages(self, question: str, reference: str, response: str, *, swapped: bool = False) -> list[Message]:
        """Return the messages of a request: the prompts, filled in."""
        correct, wrong = reversed(self.labels) if swapped else self.labels
        texts = {"question": question, "reference": reference, "response": response}
        values = {**texts, "correct": correct, "wrong": wrong, "fence": _fence(list(texts.values()))}
        user = Message(role="user", content=_filled(self.user, values))
        return [user] if self.system is None else [Message(role="system", content=_filled(self.system, values)), user]


def load_judge(wanted: str | Path) -> Judge:
    """Return the judge of that name, or of the folder at that path.

    Raises JudgeError where there is none, or with all faults of its files together.
    """
    folder = find_judge(wanted)
    place, name = folder.path, folder.name
    path = place / FILE
    faults: list[str] = []
    if not _NAME.fullmatch(name):
        faults.append(f"the judge's name {name!r} names files: letters, digits, '_', '-', '.' and '+' only")
    if name == EXACT:
        faults.append(f"the name {EXACT} stands for judging by numbers; call the folder otherwise")
    config = _read_config(path, faults)
    if config is None:
        raise _faulty(path, faults)
    user = _read_prompt(place, config.prompt.user, ("question", "response"), faults)
    system = None if config.prompt.system is None else _read_prompt(place, config.prompt.system, (), faults)
    if config.verdict.read == "tag":
        both = user + (system or "")
        faults += [f"the prompts never name {{{name}}}" for name in ("correct", "wrong") if f"{{{name}}}" not in both]
    if faults:
        raise _faulty(path, faults)
    return Judge(name, config, user, system)


def _read_config(path: Path, faults: list[str]) -> JudgeConfig | None:
    import yaml

    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        faults.append(" ".join(str(error).split()))
        return None
    if not isinstance(value, dict):
        faults.append("expected a table of keys")
        return None
    try:
        return JudgeConfig.model_validate(value)
    except ValidationError as error:
        faults += [_in_words(each) for each in error.errors(include_url=False)]
        return None


def _in_words(error: ErrorDetails) -> str:
    key = ".".join(map(str, error["loc"]))
    if error["type"] == "extra_forbidden":
        tables: dict[str, type[_Strict]] = {"prompt": PromptFiles, "verdict": VerdictConfig, "price": PriceConfig}
        table = tables[str(error["loc"][0])] if len(error["loc"]) > 1 else JudgeConfig
        return f"unknown key {key!r}{nearest(str(error['loc'][-1]), table.model_fields)}"
    if error["type"] == "missing":
        return f"no key {key!r}"
    return f"{key}: {error['msg'].removeprefix('Value error, ')}, got {error['input']!r}"


def _read_prompt(place: Path, name: str, needed: Sequence[str], faults: list[str]) -> str:
    try:
        text = (place / name).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        faults.append(f"prompt file {name!r}: {' '.join(str(error).split())}")
        return ""
    placeholders = set(_PLACEHOLDER.findall(text))
    faults += [f"prompt file {name!r} has no {{{each}}}" for each in needed if each not in placeholders]
    faults += [
        f"prompt file {name!r}: unknown placeholder {{{each}}}{nearest(each, PLACEHOLDERS)}"
        for each in sorted(placeholders - set(PLACEHOLDERS))
    ]
    return text


def _faulty(path: Path, faults: Sequence[str]) -> JudgeError:
    return JudgeError("\n".join(f"{path}: {fault}" for fault in faults), exit_code=2)


def _filled(template: str, values: dict[str, str]) -> str:
    """Fill in all placeholders in one pass, so that what is filled in is never read for placeholders."""
    return _PLACEHOLDER.sub(lambda match: values[match[1]], template)


def _fence(texts: Sequence[str]) -> str:
    """Return a word that stands in none of the texts, and is the same whenever the texts are."""
    salt = 0
    while True:
        whole = json.dumps([salt, *texts]).encode()
        word = hashlib.sha256(whole).hexdigest()[:12]
        if not any(word in text for text in texts):
            return word
        salt += 1
