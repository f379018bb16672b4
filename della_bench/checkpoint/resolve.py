"""From a source to a folder on this machine, downloading from the Hugging Face hub where it must."""

from __future__ import annotations

import fnmatch
import re
from pathlib import Path
from textwrap import shorten

from della_bench import zoo
from della_bench.errors import CheckpointError
from della_bench.spec import MergeSpec, Source

__all__ = ["resolve"]

_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?", re.ASCII)
_WANTED = ["*.json", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.spm", "*.bpe"]
# In the order of preference, a whole model before an adapter.
_WEIGHTS = ["*.safetensors", "pytorch_model*.bin", "adapter_model.bin"]
# No folder but additional_chat_templates/, in whatever way fnmatch can say so.
_UNWANTED = ["consolidated*", "[!a]*/*", "a[!d]*/*", "ad[!d]*/*"]


def resolve(source: Source, *, weights: bool = True, trust_remote_code: bool = False) -> Path:
    """Return the folder of a source's files.

    An existing folder wins over a hub id of the same text, an `@` in it included. The folder of a merge is that of the
    model whose tokenizer it has, of the base where it makes one, and an adapter's is another than the model's that it
    changes. From the hub only weights (unless `weights` is false), config and tokenizer are taken, with
    `trust_remote_code` also the repository's own modules. Torch's .bin files are taken only where the repository has no
    safetensors.

    Raises CheckpointError: exit code 2 where the source is wrong, 1 where the hub cannot be reached.
    """
    if source.scheme == "zoo":
        return zoo.folder(source.place)
    if source.scheme == "merge":
        spec = MergeSpec.parse(source.place)
        model = spec.tokenizer if isinstance(spec.tokenizer, Source) else spec.base
        return resolve(model, weights=weights, trust_remote_code=trust_remote_code)
    folder = Path(source.place if source.revision is None else f"{source.place}@{source.revision}")
    try:
        folder = folder.expanduser()
        if folder.is_dir():
            return folder
        is_file = folder.exists()
    except (OSError, RuntimeError) as error:  # no permission, a name too long, ~user where there is no such user
        raise CheckpointError(f"{source}: no folder that can be opened: {error}") from None
    if is_file:
        raise CheckpointError(f"{source}: a file; a source is the folder that holds config.json and the weights")
    if not _HUB_ID.fullmatch(source.place):
        raise CheckpointError(f"{source}: no such folder, and not a hub id (org/name)")
    return _download(source, [*_WANTED, *(["*.py"] if trust_remote_code else [])], weights)


def _download(source: Source, patterns: list[str], weights: bool) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        wanted = [*patterns, *_weights(source)] if weights else patterns
        folder = snapshot_download(
            source.place, revision=source.revision, allow_patterns=wanted, ignore_patterns=_UNWANTED
        )
    except errors.GatedRepoError:
        raise CheckpointError(
            f"{source}: a gated repository; ask for access on https://huggingface.co/{source.place}, "
            f"then log in with `hf auth login`"
        ) from None
    except errors.RevisionNotFoundError:
        raise CheckpointError(f"{source}: the hub has no revision {source.revision!r} of {source.place}") from None
    except errors.RepositoryNotFoundError:
        raise CheckpointError(
            f"{source}: no such folder, and no such repository on the hub; if it is private, "
            f"log in with `hf auth login`"
        ) from None
    except errors.HFValidationError as error:
        raise CheckpointError(f"{source}: no such folder, and not a hub id: {error}") from None
    except Exception as error:  # every transport has its own: a refused connection, a proxy, offline mode
        reason = shorten(str(error), 200, placeholder=" ...")
        raise CheckpointError(
            f"{source}: no such folder here, and the hub could not be asked ({type(error).__name__}: {reason})",
            exit_code=1,
        ) from error
    return Path(folder)


def _weights(source: Source) -> list[str]:
    """Return the patterns of the best weights that a repository has."""
    from huggingface_hub import HfApi, errors

    try:
        files = HfApi().list_repo_files(source.place, revision=source.revision)
    except (errors.RepositoryNotFoundError, errors.RevisionNotFoundError, errors.HFValidationError):
        raise
    except Exception:  # not to be reached: whatever the cache holds is taken, or the download says why it fails
        return []
    own = [file for file in files if "/" not in file and not file.startswith("consolidated")]
    whole = [file for file in own if not file.startswith("adapter_model.")]
    for candidates in (whole, own):
        for pattern in _WEIGHTS:
            if fnmatch.filter(candidates, pattern):
                return [pattern]
    return []
