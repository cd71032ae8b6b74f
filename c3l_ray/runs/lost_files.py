"""Files that nobody reads: of writers that lost their race or were killed, and of healed units."""

import contextlib
import os
import re
import time

from c3l_ray.runs.commit import parse_edition, read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.storage import Location

WRITTEN_FOLDERS = ("records", "manifests", "shards", "joins", "errors", "progress")
TEMPORARY_AGE_S = 3600.0
"""Seconds after which a temporary file is taken to be of a writer that was killed."""

_TEMPORARY = re.compile(r"\..+-[0-9a-f]{12}")  # as `storage` names what it has not written yet


def delete_lost_files(folder: RunFolder, *, temporary_age_s: float = TEMPORARY_AGE_S) -> int:
    """Deletes the data files that lost their race or are healed, and returns how many there were.

    Only a file whose unit is committed under another name, in this edition or a later one, is
    touched, and a temporary file of some age, so that a job still writing into the same folder
    loses nothing.

    Args:
        folder: of the run.
        temporary_age_s: of files that a killed writer has left, since they were last written to.
    """
    committed = {manifest.unit: manifest for manifest in read_manifests(folder)}
    lost = []
    for file in (folder.location / "records").list_children():
        # A writer that was killed leaves `.<unit>-<attempt>.parquet-<random>`.
        is_temporary = file.name.startswith(".")
        whole_name = file.name[1:].rpartition("-")[0] if is_temporary else file.name
        try:
            unit, edition = parse_edition(whole_name.rpartition("-")[0])
        except ValueError:  # no file of ours
            continue
        manifest = committed.get(unit)
        is_named = manifest is not None and manifest.file == f"records/{file.name}"
        if manifest is not None and edition <= manifest.edition and not is_named:
            lost.append(file)
    lost += [file for file in _find_temporary(folder, temporary_age_s) if file not in lost]
    for file in lost:
        with contextlib.suppress(FileNotFoundError):  # another command on this folder was first
            file.remove()
    return len(lost)


def _find_temporary(folder: RunFolder, age_s: float) -> list[Location]:
    """The temporary files of a folder that nobody has written to for so long; S3 has none."""
    if not folder.location.is_local:
        return []
    found = []
    for place in (folder.location, *(folder.location / name for name in WRITTEN_FOLDERS)):
        for file in place.list_children():
            if _TEMPORARY.fullmatch(file.name):
                with contextlib.suppress(FileNotFoundError):  # its writer has just renamed it
                    if time.time() - os.stat(file.path).st_mtime >= age_s:
                        found.append(file)
    return found
