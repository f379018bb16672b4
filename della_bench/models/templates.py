"""What lm-eval's `apply_chat_template` does to a merge, looked at before the weights are."""

from __future__ import annotations

import logging
import sys

from della_bench.errors import SpecError
from della_bench.merge.stream import Merge
from della_bench.merge.templates import chosen_template, template_owner
from della_bench.scoring.guard import running_evaluation, templated_tasks

__all__ = ["check_chat_template"]

log = logging.getLogger(__name__)


def check_chat_template(merge: Merge) -> None:
    """Check the evaluation that is making the model, if there is one and it is to apply a chat template.

    Raises SpecError where the tokenizer has no such template, which lm-eval notices when the model is there. Warns of
    tasks whose prompts hold a template already.
    """
    evaluation = running_evaluation(sys._getframe(1)) or {}
    wanted = evaluation.get("apply_chat_template")
    if not wanted:
        return
    for name, template in templated_tasks(evaluation):
        log.warning(
            "%s: its prompts hold the template of %s already, and apply_chat_template puts the tokenizer's own around "
            "it",
            name,
            template,
        )
    found = chosen_template(merge).content
    source = template_owner(merge.spec)
    if not found:
        raise SpecError(
            f"apply_chat_template: the tokenizer of {source} has no chat template; name a source that has one as "
            "chat_template=SOURCE, or leave apply_chat_template out"
        )
    if isinstance(found, dict):
        name = wanted if isinstance(wanted, str) else "default"
        if name not in found:
            raise SpecError(f"apply_chat_template: {source} has no template {name!r}, but {', '.join(sorted(found))}")
