"""What runs noted of their input in the run folder: the units of each shard, and joined units."""

import dataclasses
import json
from typing import Any

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.folder import RunFolder


def read_units(folder: RunFolder, shard: Shard) -> list[Unit] | None:
    """The units of a shard as an earlier run found them, or None.

    Raises:
        PreflightError: the shard has changed since.
    """
    noted = folder.read_json(_index_name(shard))
    if noted is None:
        return None
    if _differs(noted, shard):
        raise PreflightError(
            f"--input {shard.address}: has changed since {folder.path} was begun "
            f"({noted['size']:,} bytes then, {shard.size:,} now). Choose another output for "
            "the changed data; --retry-failed takes images that were mended in place"
        )
    return _make_units(noted, shard)


def has_changed(folder: RunFolder, shard: Shard) -> bool:
    """Whether a shard is noted and has changed since."""
    noted = folder.read_json(_index_name(shard))
    return noted is not None and _differs(noted, shard)


def read_noted_units(folder: RunFolder, shard: Shard) -> list[Unit]:
    """The units of a shard that is noted, also where it has changed since."""
    return _make_units(folder.read_json(_index_name(shard)) or {"units": []}, shard)


def _differs(noted: dict[str, Any], shard: Shard) -> bool:
    return bool((noted["size"], noted["etag"]) != (shard.size, shard.etag))


def _make_units(noted: dict[str, Any], shard: Shard) -> list[Unit]:
    return [Unit(**{**unit, "path": shard.path}) for unit in noted["units"]]


def write_units(folder: RunFolder, shard: Shard, units: list[Unit]) -> None:
    """Notes the units of a shard."""
    noted = [dataclasses.asdict(unit) for unit in units]
    folder.write_json(_index_name(shard), {"size": shard.size, "etag": shard.etag, "units": noted})


def read_joins(folder: RunFolder) -> list[list[list[str]]]:
    """The groups of unit names that runs have joined, in the order they were noted."""
    return [json.loads(file.read()) for file in folder.list_json("joins")]


def write_joins(folder: RunFolder, number: int, groups: list[list[str]]) -> bool:
    """Notes new groups as the file of this number. False where another run's came first."""
    return folder.write_if_absent(f"joins/{number:06d}.json", json.dumps(groups).encode())


def _index_name(shard: Shard) -> str:
    return f"shards/{shard.name}.json"
