"""What lm-eval's `apply_chat_template` does to a merge, looked at before the weights are."""

from __future__ import annotations

import logging
import sys

from della_bench.merge.stream import Merge
from della_bench.merge.templates import chosen_template, template_asked_for, template_owner
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
    template_asked_for(chosen_template(merge).content, wanted, template_owner(merge.spec))
