"""What lies beside the weights of a written merge, so that all that loads from the base loads from it.

Tokenizers, processors and a repository's own code have files of many names (`tokenizer.model`, `qwen.tiktoken`,
`spiece.model`, `preprocessor_config.json`, ...), and each new one would be missing from a list. So all files of their
kinds are copied but the few that belong to the weights or to the training.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from della_bench.checkpoint.model import read_json
from della_bench.checkpoint.tokenizers import check_vocabulary, highest_id, load_tokenizer
from della_bench.jsonfiles import write_json
from della_bench.merge.stream import Merge
from della_bench.merge.templates import chosen_template
from della_bench.merge.vocabulary import generation_changes, row_count_of

__all__ = ["check_companions", "copy_companions"]

_KINDS = {".bpe", ".codes", ".jinja", ".json", ".model", ".py", ".spm", ".tiktoken", ".txt", ".vocab"}
_NOT_COPIED = re.compile(
    r"config\.json|.*\.index\.json|adapter_config\.json|quantize?_config\.json|trainer_state\.json|.*results\.json"
    r"|della_bench.*"
)
# The base's, whatever tokenizer the spec names; all others belong to the tokenizer.
_MODELS_OWN = re.compile(r"generation_config\.json|.*(processor|extractor)_config\.json|configuration\.json|.*\.py")
_TEMPLATES = "additional_chat_templates"
_TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json")


def check_companions(merge: Merge) -> None:
    """Raise CheckpointError where the tokenizer has ids that texts use and the merge has no rows for."""
    if merge.vocabulary is not None:
        return  # its rows are those of its tokens
    rows, source = row_count_of(merge.base, None), merge.tokenizer_folder
    if rows is not None and highest_id(source) >= rows:
        check_vocabulary(merge.spec, load_tokenizer(source, trust_remote_code=merge.trust_remote_code), rows)


def copy_companions(merge: Merge, folder: Path) -> None:
    """Copy the base's generation config, processors and code, and the tokenizer's files; write the spec's template."""
    tokenizer = merge.tokenizer_folder
    for path in _companions(tokenizer):
        if not _MODELS_OWN.fullmatch(path.name) or path.name.startswith("tokenization"):
            shutil.copyfile(path, folder / path.name)
    if (tokenizer / _TEMPLATES).is_dir():
        shutil.copytree(tokenizer / _TEMPLATES, folder / _TEMPLATES)
    for path in _companions(merge.base.folder):
        if _MODELS_OWN.fullmatch(path.name) and not (folder / path.name).exists():
            shutil.copyfile(path, folder / path.name)
    if changes := generation_changes(merge.vocabulary, merge.base):
        path = folder / "generation_config.json"
        write_json(path, {**read_json(path, merge.base.label), **changes})
    if merge.spec.chat_template is not None and (template := chosen_template(merge).content):
        _write_template(template, folder)


def _companions(source: Path) -> list[Path]:
    return [
        path
        for path in sorted(source.iterdir())
        if path.suffix in _KINDS and path.is_file() and not _NOT_COPIED.fullmatch(path.name)
    ]


def _write_template(template: Any, folder: Path) -> None:
    """Make a template, or several by name, the only ones of a folder; a file comes before tokenizer_config.json."""
    for name in _TEMPLATE_FILES:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder / _TEMPLATES, ignore_errors=True)
    for name, text in (template if isinstance(template, dict) else {"default": template}).items():
        path = folder / (_TEMPLATE_FILES[0] if name == "default" else f"{_TEMPLATES}/{name}.jinja")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
