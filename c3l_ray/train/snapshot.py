"""Ray Train's list of a run's checkpoints, mended where it would keep a run from going on.

Ray Train writes the list in place after each checkpoint, and reads it at the next command. Where it
breaks off, or names a folder that is gone, Ray Train ends with an error, and so would every later
command.
"""

import io
import json
import logging
import pickle
from collections.abc import Sequence
from dataclasses import dataclass

from c3l_ray import storage
from c3l_ray.storage import Location

SNAPSHOT = "checkpoint_manager_snapshot.json"
"""Ray Train's name for it, in the folder of the checkpoints."""
POSITION = "position.json"
METADATA = ".metadata"
"""torch's name for the list of tensors of a checkpoint, and of the files that hold them."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class WholeCheckpoint:
    """A checkpoint that can be restored.

    Attributes:
        name: of its folder.
        step: steps done.
    """

    name: str
    step: int


def mend_snapshot(path: str) -> None:
    """Drops checkpoints from the list that cannot be restored; makes it anew if it is unreadable.

    Args:
        path: of the folder of the checkpoints, absolute or s3://; it need not exist.

    Raises:
        OSError: the storage failed.
    """
    from ray.train.v2._internal.execution.checkpoint.checkpoint_manager import (
        _CheckpointManagerState,
        _TrainingResultState,
    )

    folder = Location.connect(path)
    file = folder / SNAPSHOT
    if not file.exists():
        return
    try:
        state = _CheckpointManagerState.model_validate_json(file.read())
        listed = [result.checkpoint_dir_name for result in state.checkpoint_results]
        if len(state.checkpoint_report_indices) != len(listed):
            raise ValueError("a list of indices of another length")
    except ValueError as error:  # of JSON, and of pydantic
        found = [child.name for child in folder.list_children()]
        whole = find_whole(folder, [name for name in found if name.startswith("checkpoint_")])
        log.warning(
            "%s cannot be read (%s); the training goes on from %s",
            *(file.address, type(error).__name__, _say_latest(whole)),
        )
        results = [
            _TrainingResultState(checkpoint_dir_name=one.name, metrics={"step": one.step})
            for one in whole
        ]
        state = _CheckpointManagerState(
            checkpoint_results=results,
            checkpoint_report_indices=list(range(len(results))),
            latest_checkpoint_result=results[-1] if results else None,
            pending_training_results=[],
            pending_validation_specs=[],
            current_report_index=len(results),
            validated_checkpoint_dir_names=[],
            timed_out_validation_checkpoint_dir_names=[],
            failed_validation_checkpoint_dir_names=[],
        )
        file.write(state.model_dump_json().encode())
        return
    whole = find_whole(folder, listed)
    names = {one.name for one in whole}
    latest = state.latest_checkpoint_result
    if len(names) == len(listed) and (latest is None or latest.checkpoint_dir_name in names):
        return
    lost = [name for name in listed if name not in names]
    log.warning(
        "%s: %d of %d checkpoints are not there or not whole (%s); the training goes on from %s",
        *(folder.address, len(lost), len(listed), ", ".join(lost), _say_latest(whole)),
    )
    kept = [row for row, name in enumerate(listed) if name in names]
    state.checkpoint_report_indices = [state.checkpoint_report_indices[row] for row in kept]
    state.checkpoint_results = [state.checkpoint_results[row] for row in kept]
    if latest is None or latest.checkpoint_dir_name not in names:
        state.latest_checkpoint_result = next(reversed(state.checkpoint_results), None)
    state.pending_training_results = []  # of validations, which we have none of
    state.pending_validation_specs = []
    file.write(state.model_dump_json().encode())


def find_whole(folder: Location, names: Sequence[str]) -> list[WholeCheckpoint]:
    """Those of a run's checkpoints that can be restored, by their steps.

    Args:
        folder: of the checkpoints.
        names: of their folders.

    Raises:
        OSError: the storage failed.
    """
    found = storage.map_at_once(lambda name: _read_whole(folder, name), list(names))
    whole = [one for one in found if one is not None]
    return sorted(whole, key=lambda one: (one.step, one.name))


def _read_whole(folder: Location, name: str) -> WholeCheckpoint | None:
    """A checkpoint, or None where a file of it is missing or breaks off."""
    checkpoint = folder / name
    try:
        step = json.loads((checkpoint / POSITION).read())["step"]
        ends = _find_ends((checkpoint / METADATA).read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # of bytes that break off
        if storage.is_fault(error):
            raise
        return None
    files = checkpoint.fs.find(checkpoint.path, detail=True)
    sizes = {path.rpartition("/")[2]: info["size"] for path, info in files.items()}
    if any(sizes.get(file, -1) < end for file, end in ends.items()):
        return None
    return WholeCheckpoint(name=name, step=int(step))


def _find_ends(metadata: bytes) -> dict[str, int]:
    """Where the last tensor ends in each file of a checkpoint, by the file's name."""
    ends: dict[str, int] = {}
    for place in pickle.load(io.BytesIO(metadata)).storage_data.values():
        end = place.offset + place.length
        ends[place.relative_path] = max(end, ends.get(place.relative_path, 0))
    return ends


def _say_latest(whole: Sequence[WholeCheckpoint]) -> str:
    return f"step {whole[-1].step}" if whole else "its begin"
