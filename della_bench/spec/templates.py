"""The chat template that a spec asks for: `auto`, one by name, a text of its own, or that of a model.

The named ones are those that mergekit has, and give the same prompts as its own, to the character: an `alpaca` answer
begins on the question's last line, `llama3` puts a line break behind every message, and `exaone` indents.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from della_bench.spec.source import Source, decode, encode
from della_bench.spec.stages import read_source
from della_bench.suggest import nearest

__all__ = ["AUTO", "NAMED", "Template", "TemplateChoice", "read_template", "settled", "template_text"]

AUTO = "auto"
NAMED = {
    "alpaca": (
        "{% set system = messages | selectattr('role', 'equalto', 'system') | map(attribute='content') | list %}"
        "{{ (system | last | trim if system else '') ~ '\\n\\n' }}"
        "{% for message in messages %}"
        "{% set title = {'user': 'Instruction', 'assistant': 'Response', 'user_context': 'Input'}.get(message.role) %}"
        "{% if title %}"
        "{{ '### ' ~ title ~ ':\\n' ~ message.content | trim ~ ('' if loop.last else '\\n\\n') }}"
        "{% endif %}"
        "{% endfor %}"
        "{% if add_generation_prompt and messages[-1].role != 'assistant' %}{{ '### Response:\\n' }}{% endif %}"
    ),
    "chatml": (
        "{% for message in messages %}"
        "{{ '<|im_start|>' ~ message.role ~ '\\n' ~ message.content ~ '<|im_end|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    ),
    "exaone": (
        "{% for message in messages %}"
        "{% if loop.first and message.role != 'system' %}{{ '        [|system|][|endofturn|]\\n\\n' }}{% endif %}"
        "{{ '    [|' ~ message.role ~ '|]' ~ message.content ~ '\\n        ' }}"
        "{{ ('' if message.role == 'user' else '[|endofturn|]') ~ '\\n\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '    [|assistant|]\\n' }}{% endif %}"
    ),
    "llama3": (
        "{% for message in messages %}"
        "{{ (bos_token if loop.first else '') ~ '<|start_header_id|>' ~ message.role ~ '<|end_header_id|>\\n\\n' }}"
        "{{ message.content | trim ~ '<|eot_id|>\\n' }}"
        "{% endfor %}"
        "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif %}"
    ),
    "mistral": (
        "{% set system = messages[0].content ~ '\\n\\n' if messages[0].role == 'system' else '' %}"
        "{{ bos_token }}"
        "{% for message in (messages[1:] if system else messages) %}"
        "{% if message.role not in ('user', 'assistant') %}"
        "{{ raise_exception('a conversation has users and assistants, and a system message before them') }}"
        "{% elif message.role != ('assistant' if loop.index0 % 2 else 'user') %}"
        "{{ raise_exception('users and assistants take turns, and a user begins') }}"
        "{% elif message.role == 'user' %}"
        "{{ ' [INST] ' ~ (system if loop.first else '') ~ message.content ~ ' [/INST]' }}"
        "{% else %}"
        "{{ ' ' ~ message.content ~ eos_token }}"
        "{% endif %}"
        "{% endfor %}"
    ),
}
"""The text of each template by its name. `messages` are an array of {role, content}, as transformers gives them."""

_TEXT = "text:"
_WORD = re.compile(r"[^/%@:.~\\][^/%@:]*")


@dataclass(frozen=True)
class Template:
    """A chat template that is no model's: `auto`, the name of one, or a text. A word that is not known yet is a name.

    `auto` is the one that most of the merge's models have; of equals the first model's, the base before the experts.
    """

    name: str = ""
    text: str = ""

    @property
    def content(self) -> str:
        """The template's text; empty for `auto`, which depends on the models."""
        return self.text or NAMED.get(self.name, "")

    def __str__(self) -> str:
        """Return the text that `read_template` takes back."""
        return self.name or _TEXT + encode(self.text)


TemplateChoice = Source | Template


def read_template(value: object) -> TemplateChoice:
    """Read any form. A text is known by its braces, or by `text:` before its percent-encoded form. Raises ValueError.

    A single word is returned as a name, which `settled` makes a source of where it is one of the merge's.
    """
    if isinstance(value, Template):
        return value
    if not isinstance(value, str):
        return read_source(value)
    if "{" in value:
        return Template(text=_checked(value))
    text = value.strip()
    if text.startswith(_TEXT) and not text.startswith(_TEXT + ":"):  # that would be a model called so, with an adapter
        return Template(text=_checked(decode(text.removeprefix(_TEXT))))
    return Template(text) if _WORD.fullmatch(text) else Source.parse(text)


def settled(choice: TemplateChoice, models: Collection[Source], faults: list[str]) -> TemplateChoice:
    """Return a choice whose name is known; a name that is none of a template's or a model's becomes a fault."""
    if isinstance(choice, Source) or choice.content or choice.name == AUTO:
        return choice
    source = Source.parse(choice.name)
    if source not in models:
        hint = nearest(choice.name, [AUTO, *NAMED])
        faults.append(
            f"chat_template={choice.name}: no template of this name{hint} (a folder here is written ./{choice.name}, a "
            "template's text has braces)"
        )
    return source


def template_text(choice: TemplateChoice, models: Collection[Source]) -> str:
    """Return the text that is read as this choice in a spec of these models."""
    if isinstance(choice, Template):
        return str(choice)
    text = str(choice)
    is_name = text in (AUTO, *NAMED) or choice not in models
    return choice.guarded((text,)) if _WORD.fullmatch(text) and is_name else text


def _checked(text: str) -> str:
    """Return a template's text. Raises ValueError where it is no template of Jinja."""
    from jinja2 import Environment, TemplateError

    if "{" not in text:
        raise ValueError("a template's text has braces")
    # transformers marks what an assistant says with a tag of its own
    plain = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", text)
    try:
        Environment(extensions=["jinja2.ext.loopcontrols"]).parse(plain)
    except TemplateError as error:
        raise ValueError(f"not a Jinja template: {error}") from None
    return text
