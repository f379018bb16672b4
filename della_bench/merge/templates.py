"""Which chat template a merge has, and whose it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from della_bench.checkpoint.tokenizers import folder_template, has_tokenizer, load_chat_template
from della_bench.errors import SpecError
from della_bench.merge.staged import Staged
from della_bench.spec import MergeSpec, Source
from della_bench.spec.templates import AUTO, Template

if TYPE_CHECKING:
    from della_bench.checkpoint.model import ModelFolder
    from della_bench.merge.stream import Merge

__all__ = ["ChosenTemplate", "chosen_template", "template_asked_for", "template_owner"]


@dataclass(frozen=True)
class ChosenTemplate:
    """A chat template: its text, or several by name, or None where there is none; and whose it is, in words."""

    content: Any
    origin: str

    def __str__(self) -> str:
        """Return whose it is, or that there is none."""
        return self.origin if self.content else "none"


def chosen_template(merge: Merge, read_own: Callable[[], Any] | None = None) -> ChosenTemplate:
    """Return the chat template of a merge: what its spec names, else its tokenizer's.

    read_own: returns that of the tokenizer, where somebody has loaded it already. Raises CheckpointError where the spec
    names a source whose tokenizer has none.
    """
    choice, remote = merge.spec.chat_template, merge.trust_remote_code
    if isinstance(choice, Source):
        return ChosenTemplate(load_chat_template(choice, trust_remote_code=remote), f"that of {choice}")
    if choice is not None and choice.name != AUTO:
        what = f"the one named {choice.name}" if choice.name else "the spec's own text"
        return ChosenTemplate(choice.content, what)
    if choice is not None:
        found = _most_common(merge.sources, remote)
        if found is not None:
            return found
    own = read_own() if read_own else folder_template(merge.tokenizer_folder, trust_remote_code=remote)
    return ChosenTemplate(own, f"that of {template_owner(merge.spec)}")


def template_asked_for(found: Any, wanted: bool | str, source: Source) -> str:
    """Return of a tokenizer's template, or of several by name, the one that `apply_chat_template` asks for.

    wanted: True, or a name, which one template alone does not have. source: whose tokenizer it is. Raises SpecError
    where there is none, or none of that name.
    """
    if not found:
        raise SpecError(
            f"apply_chat_template: the tokenizer of {source} has no chat template; name a source that has one as "
            "chat_template=SOURCE in the spec, or leave apply_chat_template out"
        )
    if not isinstance(found, dict):
        return str(found)
    name = wanted if isinstance(wanted, str) else "default"
    if name not in found:
        raise SpecError(f"apply_chat_template: {source} has no template {name!r}, but {', '.join(sorted(found))}")
    return str(found[name])


def template_owner(spec: MergeSpec) -> Source:
    """Return the source that a spec takes its chat template from, or the one whose tokenizer it has, else the base."""
    return next(choice for choice in (spec.chat_template, spec.tokenizer, spec.base) if isinstance(choice, Source))


def _most_common(sources: list[ModelFolder], trust_remote_code: bool) -> ChosenTemplate | None:
    """Return the template that most of the models have, as mergekit's `auto`; of equals the first model's.

    mergekit takes the models in the order of a set, so that there chance decides between equals.
    """
    models = list(dict.fromkeys(source.origin for source in sources))
    texts: dict[str, str] = {}  # by the model's label
    for model in models:
        template = _own(model, trust_remote_code=trust_remote_code)
        template = template.get("default") if isinstance(template, dict) else template
        if template:
            texts[model.label] = template.strip()
    if not texts:
        return None
    text, count = Counter(texts.values()).most_common(1)[0]
    first = next(label for label, own in texts.items() if own == text)
    return ChosenTemplate(text, f"that of {first} (auto: {count} of {len(models)} models have it)")


def _own(model: ModelFolder, *, trust_remote_code: bool) -> Any:
    """Return the template of a model: that which a merge of its own names, else its tokenizer's; None without one."""
    choice = model.spec.chat_template if isinstance(model, Staged) else None
    if (
        isinstance(model, Staged)
        and choice == Template(AUTO)
        and (found := _most_common(model.sources, trust_remote_code))
    ):
        return found.content
    if isinstance(choice, Source):
        return load_chat_template(choice, trust_remote_code=trust_remote_code)
    if choice is not None and choice.name != AUTO:
        return choice.content
    if not has_tokenizer(model.tokenizer_folder):
        return None
    return folder_template(model.tokenizer_folder, trust_remote_code=trust_remote_code)
