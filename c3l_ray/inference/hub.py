"""The hub's commits, and what its refusals mean for the user."""

from collections.abc import Iterator
from pathlib import Path

from c3l_ray.errors import C3LError, PreflightError, first_line
from c3l_ray.model_files import is_storage_away

CLIP_HUB = "hf-hub:"
"""What open_clip's names of the hub begin with; ours may end with @ and a revision."""

_PASSING_STATUSES = (408, 429)


def find_commit(repo: str, file: str, revision: str | None) -> str:
    """The commit that the hub, or else this machine's cache, has of a repository.

    Args:
        repo: its name.
        file: one that it has.
        revision: branch, tag or commit; None takes the latest.

    Raises:
        Exception: the hub's client has a dozen kinds; `explain_hub_error` says what they mean.
    """
    from huggingface_hub import hf_hub_download

    # A snapshot's folder has the commit's name.
    return Path(hf_hub_download(repo, file, revision=revision)).parent.name


def download_clip(name: str) -> str:
    """The folder on this node of an open_clip model named `hf-hub:OWNER/NAME@REVISION`."""
    from huggingface_hub import snapshot_download

    repo, _, revision = name.removeprefix(CLIP_HUB).partition("@")
    patterns = ["open_clip_*", "*.json", "*.txt", "*.model"]
    return snapshot_download(repo, revision=revision, allow_patterns=patterns)


def is_adapter_on_hub(repo: str, revision: str | None) -> bool:
    """Whether a repository holds an adapter of peft's; False too where the hub does not say."""
    from huggingface_hub import hf_hub_download

    try:
        hf_hub_download(repo, "adapter_config.json", revision=revision)
    except Exception:  # there is none, or the question has the fault that the first one had
        return False
    return True


def explain_hub_error(error: BaseException, name: str) -> str:
    """Why the hub does not give a model, and the way out; else the error's own first line."""
    from huggingface_hub import errors

    token = "log in with `hf auth login`, or set HF_TOKEN on every node"
    for cause in _list_causes(error):
        if isinstance(cause, errors.GatedRepoError):
            page = f"https://huggingface.co/{name}"
            return f"is gated on the hub: accept its terms on {page} and {token}"
        if isinstance(cause, errors.RevisionNotFoundError):
            return "has no such revision on the hub; see --model.revision and --scorer.revision"
        if isinstance(cause, errors.RepositoryNotFoundError):
            return f"the hub has no such model, or a private one: check the name, or {token}"
        if isinstance(cause, errors.LocalEntryNotFoundError | errors.OfflineModeIsEnabled):
            return (
                "is not on this machine, and the hub cannot be reached (offline, or HF_HUB_OFFLINE "
                "is set): run the same command again once it can, or download it and name its "
                "folder"
            )
    return first_line(error)


def choose_error(error: Exception, message: str) -> C3LError:
    """The error to raise where a model cannot be had; no refusal where it may be, later."""
    passes = is_hub_away(error) or is_storage_away(error)
    return C3LError(message) if passes else PreflightError(message)


def is_hub_away(error: BaseException) -> bool:
    """Whether the hub may give later what it did not give now: no connection, a 5xx, throttling."""
    from huggingface_hub import errors

    for cause in _list_causes(error):
        if isinstance(cause, errors.OfflineModeIsEnabled):
            return False
        if isinstance(cause, errors.HfHubHTTPError):
            status = cause.response.status_code
            return status in _PASSING_STATUSES or status >= 500
        if type(cause).__module__.startswith("httpx"):  # of a connection, where nothing answered
            return True
    return False


def _list_causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and those that it was raised from or during."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
