"""A benchmark's first prompt as a model would see it, and the chat template that it is asked through."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from della_bench.checkpoint.tokenizers import load_tokenizer
from della_bench.errors import SpecError
from della_bench.merge.stream import Merge
from della_bench.merge.templates import ChosenTemplate, chosen_template, template_asked_for, template_owner
from della_bench.run.settings import EvalSettings
from della_bench.spec import MergeSpec

__all__ = ["first_prompt", "tokenizer_with_template"]


def first_prompt(task: Any, settings: EvalSettings, spec: MergeSpec, arguments: Mapping[str, Any]) -> str:
    """Return what a model is asked first: the text of the first document, and behind it what else is scored of it.

    task: a built task of lm-eval, or a group, of which the first task counts. arguments: the model type's own. Raises
    SpecError where there is no such chat template, and what the task raises.
    """
    first = task.get_all_tasks()[0] if hasattr(task, "get_all_tasks") else task
    template: Callable[..., str] | None = None
    if settings.apply_chat_template:
        remote = bool(arguments.get("trust_remote_code"))
        tokenizer, _ = tokenizer_with_template(spec, settings.apply_chat_template, trust_remote_code=remote)
        template = partial(_rendered, tokenizer, _template_arguments(arguments))
    places = (settings.samples or {}).get(first.task_name)
    first.build_all_requests(
        limit=1,
        samples=None if places is None else [places[0]],
        system_instruction=settings.system_instruction,
        apply_chat_template=template is not None,
        fewshot_as_multiturn=settings.multiturn,
        chat_template=template,
    )
    asked = [instance.args for instance in first.instances if instance.doc_id == first.instances[0].doc_id]
    context = str(asked[0][0])
    continuations = [str(each[1]) for each in asked if len(each) > 1 and isinstance(each[1], str)]
    return "\n".join([context, *(f"-> {text}" for text in continuations)])


def tokenizer_with_template(
    spec: MergeSpec, wanted: bool | str, *, trust_remote_code: bool = False
) -> tuple[Any, ChosenTemplate]:
    """Return the tokenizer of a spec with the chat template that `apply_chat_template` wants as its only one.

    wanted: True, or the name of one of several templates. Beside it, whose template that is. Raises SpecError where
    there is no such template, and CheckpointError where a source cannot be opened.
    """
    merge = Merge(spec, trust_remote_code=trust_remote_code)
    tokenizer = load_tokenizer(merge.tokenizer_folder, trust_remote_code=trust_remote_code)
    chosen = chosen_template(merge, lambda: tokenizer.chat_template)
    found, source = chosen.content, template_owner(spec)
    if found and isinstance(wanted, str) and not isinstance(found, dict):
        raise SpecError(f"apply_chat_template: {source} has one template, without a name: {wanted!r} is not there")
    tokenizer.chat_template = template_asked_for(found, wanted, source)
    return tokenizer, chosen


def _rendered(
    tokenizer: Any, options: Mapping[str, Any], messages: list[dict[str, str]], *, add_generation_prompt: bool = True
) -> str:
    """Return messages through the template, as lm-eval's model types render them."""
    text: str = tokenizer.apply_chat_template(
        messages,
        tokenize=False,
        add_generation_prompt=add_generation_prompt,
        continue_final_message=not add_generation_prompt,
        **options,
    )
    return text


def _template_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    options = dict(arguments.get("chat_template_args") or {})
    if arguments.get("enable_thinking") is not None:
        options["enable_thinking"] = arguments["enable_thinking"]
    return options
