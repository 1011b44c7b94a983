"""Publishing weights on the Hub, with their model card, in one commit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ultralytics.utils import LOGGER

from optisar_yolo.hub.card import NOTE, model_card
from optisar_yolo.hub.download import MODEL_FILE, HubError, UnreachableError, asked, is_offline, metadata_of
from optisar_yolo.utils import need

CARD_FILE = "README.md"


def publish(
    weights: Path,
    repo: str,
    *,
    private: bool | None = None,
    revision: str | None = None,
    license: str | None = None,
    message: str = "Weights and model card",
    token: str | None = None,
) -> str:
    """Publish a shared weights file; the repository is made if it does not exist.

    Args:
        weights: A file of :func:`optisar_yolo.engine.save_shared`.
        repo: ``user/name``.
        private: Make a new repository private; by default as the account has it.
        revision: Branch; the main one by default.
        license: Identifier of the licence for the head of the card.
        message: Of the commit.
        token: Key of an account that may write; by default that which huggingface_hub finds.

    Returns:
        The address of the commit.

    Raises:
        HubError: The Hub refuses or cannot be reached, or the network is switched off.
        MissingExtraError: huggingface_hub is not installed.
    """
    need("huggingface_hub")
    from huggingface_hub import CommitOperationAdd, HfApi

    repo = repo.removeprefix("hf://")
    if repo.count("/") != 1:
        raise HubError(f"'{repo}' is not the name of a repository: write user/name")
    if is_offline():
        raise HubError(f"{repo}: not published, as the network is switched off (HF_HUB_OFFLINE or YOLO_OFFLINE)")
    api = HfApi(token=token)
    card = model_card(metadata_of(weights), repo, license)
    files = {MODEL_FILE: weights, CARD_FILE: card.encode()}
    try:
        asked(repo, lambda: api.create_repo(repo, private=private, exist_ok=True))
        if _is_own_card(api, repo, revision):
            LOGGER.warning(f"{repo}: its {CARD_FILE} is not one that was made here, and stays as it is")
            del files[CARD_FILE]
        steps = [CommitOperationAdd(name, content) for name, content in files.items()]
        done = asked(repo, lambda: api.create_commit(repo, steps, commit_message=message, revision=revision))
    except UnreachableError as error:
        raise HubError(f"{repo}: not published, as {error}") from error
    return str(done.commit_url)


def _is_own_card(api: Any, repo: str, revision: str | None) -> bool:
    """Tell whether a repository has a card that somebody wrote."""
    if not asked(repo, lambda: api.file_exists(repo, CARD_FILE, revision=revision)):
        return False
    path = asked(repo, lambda: api.hf_hub_download(repo, CARD_FILE, revision=revision))
    return NOTE not in Path(path).read_text("utf-8", errors="replace")
