"""A written merge on the Hugging Face hub, by huggingface_hub's own functions."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from della_bench.errors import MergeError, UsageError

__all__ = ["check_pushable", "push_folder"]

_MADE_BY_THE_HUB = {".gitattributes", "README.md"}


def check_pushable(repository: str, *, overwrite: bool) -> None:
    """Raise UsageError or MergeError where a folder could not be pushed; asked before a merge that takes long.

    A repository that holds files is replaced only with `overwrite`.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HFValidationError
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # documented, but not exported

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise UsageError(f"{repository}: {error}", argument="push") from None
    if "/" not in repository:
        raise UsageError(f"{repository}: write ORGANISATION/NAME", argument="push")
    api = HfApi()
    with _told(repository):
        api.whoami()
        if not overwrite and api.repo_exists(repository):
            files = set(api.list_repo_files(repository)) - _MADE_BY_THE_HUB
            if files:
                raise UsageError(
                    f"{repository}: holds {len(files)} files ({sorted(files)[0]}, ...) that would be replaced; that "
                    "needs `overwrite`",
                    argument="push",
                )


def push_folder(folder: Path, repository: str, *, private: bool = True) -> str:
    """Upload a folder into a model repository, made where it is not there, and return its address.

    An existing repository stays as public or private as it is. Raises MergeError where the hub refuses; what is
    uploaded by then is not uploaded again by the next try.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with _told(repository):
        made = api.create_repo(repository, private=private, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder, commit_message="Add a merge made by della_bench")
    return str(made)


@contextmanager
def _told(repository: str) -> Iterator[None]:
    """Turn what the hub's client raises into an error that says what to do."""
    from huggingface_hub import get_token
    from huggingface_hub.errors import HfHubHTTPError, LocalTokenNotFoundError

    try:
        from httpx2 import HTTPError
    except ImportError:  # huggingface_hub 1.0 is built on httpx
        from httpx import HTTPError  # type: ignore[assignment]
    try:
        yield
    except LocalTokenNotFoundError:
        message = f"{repository}: log in to the hub first: hf auth login, or HF_TOKEN"
        raise UsageError(message, argument="push") from None
    except HfHubHTTPError as error:
        text = " ".join(str(error).split())
        if token := get_token():
            text = text.replace(token, "<token>")
        raise MergeError(f"{repository}: the hub refuses: {text}") from error
    except (OSError, HTTPError) as error:  # no connection, no such host
        raise MergeError(f"{repository}: the hub cannot be reached: {' '.join(str(error).split())}") from error
