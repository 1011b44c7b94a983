"""Weights by their name on the Hub: ``hf://user/name``, ``hf://user/name@revision``, ``hf://user/name/file.safetensors``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from safetensors import safe_open
from ultralytics.utils import LOGGER, env_bool

from optisar_yolo.plugin import MARK
from optisar_yolo.utils import need

MODEL_FILE = "model.safetensors"  # what `upload` writes, and what is taken where a repository has several files
_ENDING = ".safetensors"
_SCHEME = "hf:/"  # a path object has turned "//" into "/"
_NAME = re.compile(r"hf://?(?P<repo>[\w.-]+/[\w.-]+)(?:@(?P<revision>[^/]+))?(?:/(?P<file>.+))?")
_CLIENTS = ("httpx", "httpcore", "requests", "urllib3")  # how modules of HTTP clients begin: httpx2 is one, too
_OPENING = "other kinds of weights can run code when they are opened"

Value = TypeVar("Value")


class HubError(ValueError):
    """The Hub has no such weights, or cannot be reached; the message names the repository and the remedy."""


def is_hub_name(name: object) -> bool:
    """Tell whether a name of a model is one of the Hub."""
    return str(name).startswith(_SCHEME)


def fetch_weights(name: str, revision: str | None = None, file: str | None = None, token: str | None = None) -> Path:
    """Return the weights of a name as a file in the cache; it is fetched if it is not there or has changed.

    Where ``HF_HUB_OFFLINE`` or ``YOLO_OFFLINE`` is set the network is not used, and where the Hub cannot be reached
    the cached file is used and that is said.

    Args:
        name: ``hf://user/name``, with ``@revision`` and ``/file.safetensors`` where they are needed, or ``user/name``.
        revision: Branch, tag or commit; takes the place of that in the name.
        file: File in the repository; likewise.
        token: Key of an account; by default that which huggingface_hub finds (``HF_TOKEN``, a stored login).

    Raises:
        HubError: No such repository, revision or file, no safetensors in it, or neither network nor cached file.
        MissingExtraError: huggingface_hub is not installed.
    """
    text = str(name) if is_hub_name(name) else f"hf://{name}"
    parts = _NAME.fullmatch(text)
    if parts is None:
        raise HubError(f"'{name}' is not a name of the Hub: write hf://user/name, or hf://user/name/file{_ENDING}")
    repo, revision, file = parts["repo"], revision or parts["revision"], file or parts["file"]
    if file and not file.endswith(_ENDING):
        raise HubError(f"{text}: only {_ENDING} files are read; {_OPENING}")
    need("huggingface_hub")
    from huggingface_hub import HfApi

    if is_offline():
        return _cached(text, repo, revision, file, "the network is switched off (HF_HUB_OFFLINE or YOLO_OFFLINE)")
    api = HfApi(token=token)
    try:
        files = asked(text, lambda: api.list_repo_files(repo, revision=revision))
        chosen = _choose(text, files, file)
        return Path(asked(text, lambda: api.hf_hub_download(repo, chosen, revision=revision)))
    except UnreachableError as error:
        path = _cached(text, repo, revision, file, str(error))
        LOGGER.warning(f"{text}: {error}; the cached copy is used")
        return path


def is_offline() -> bool:
    """Tell whether the user has switched the network off."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE) or env_bool("YOLO_OFFLINE")


class UnreachableError(Exception):
    """No answer came from the Hub."""


def asked(name: str, call: Callable[[], Value]) -> Value:
    """Ask the Hub, and turn its errors into one line.

    Args:
        name: What is asked about, for the message.
        call: Asks.

    Raises:
        HubError: The Hub refuses.
        UnreachableError: There is no answer.
    """
    from huggingface_hub import errors

    try:
        return call()
    except errors.GatedRepoError as error:
        raise HubError(
            f"{name}: its owner grants access on request; ask on its page, then run 'hf auth login'"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise HubError(
            f"{name}: no such repository, or it is private; correct the name, or run 'hf auth login' (HF_TOKEN)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise HubError(f"{name}: the repository has no such revision") from error
    except errors.LocalEntryNotFoundError as error:  # before EntryNotFoundError, of which it is one
        raise UnreachableError(f"the Hub cannot be reached ({_reason(error.__cause__ or error)})") from error
    except errors.EntryNotFoundError as error:
        raise HubError(f"{name}: the repository has no such file") from error
    except errors.HfHubHTTPError as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status is None or status >= 500:
            raise UnreachableError(f"the Hub does not answer ({_reason(error)})") from error
        raise HubError(f"{name}: the Hub refuses ({_reason(error)})") from error
    except Exception as error:
        # Errors of the connection come from the client below huggingface_hub, which differs between its versions.
        if isinstance(error, OSError) or type(error).__module__.startswith(_CLIENTS):
            raise UnreachableError(f"the Hub cannot be reached ({_reason(error)})") from error
        raise


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _cached(text: str, repo: str, revision: str | None, file: str | None, why: str) -> Path:
    """Return the cached weights of a repository.

    Raises:
        HubError: There are none.
    """
    from huggingface_hub import errors, snapshot_download

    pattern = file or f"*{_ENDING}"
    try:
        folder = Path(snapshot_download(repo, revision=revision, allow_patterns=[pattern], local_files_only=True))
    except errors.LocalEntryNotFoundError as error:
        raise HubError(f"{text}: not in the cache, and {why}; fetch it once with a network") from error
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()]
    if not any(f.endswith(_ENDING) for f in files) or (file and file not in files):
        raise HubError(f"{text}: not in the cache, and {why}; fetch it once with a network")
    return folder / _choose(text, files, file)


def _choose(text: str, files: Sequence[str], file: str | None) -> str:
    """Return the weights among the files of a repository.

    Raises:
        HubError: None is meant, or several may be.
    """
    weights = sorted(f for f in files if f.endswith(_ENDING))
    if file:
        if file not in files:
            raise HubError(f"{text}: the repository has no {file}; its weights are {', '.join(weights) or 'none'}")
        return file
    if MODEL_FILE in weights:
        return MODEL_FILE
    if len(weights) == 1:
        return weights[0]
    if weights:
        raise HubError(f"{text}: name one of its files: {', '.join(f'hf://…/{w}' for w in weights)}")
    others = ", ".join(sorted(f for f in files if Path(f).suffix in (".pt", ".pth", ".bin", ".ckpt"))) or "no weights"
    raise HubError(f"{text}: no {_ENDING} in it ({others}); {_OPENING}, so only that kind is read")


def metadata_of(path: Path) -> dict[str, Any]:
    """Return what a shared weights file says about itself."""
    with safe_open(path, framework="np") as file:
        return dict(json.loads((file.metadata() or {}).get(MARK, "{}")))
