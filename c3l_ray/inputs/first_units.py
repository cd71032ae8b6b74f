"""The units of the first images of an input, for a trial that a whole run goes on from.

Where the last of these images stands, a unit ends: the shard is indexed so, once, and the note of
that in the run folder binds every later command. A shard that is indexed already keeps its units.
"""

from c3l_ray.inputs.index import read_joins, read_noted_units, read_units, write_units
from c3l_ray.inputs.joins import join_small_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.folder import RunFolder


def plan_first_units(
    shards: list[Shard], layout: Layout, folder: RunFolder, limit: int
) -> tuple[list[Unit], bool]:
    """The units that hold the first images, whole ones, and whether they are all of the input.

    More images than asked for where the input was indexed before, or joins its small files.

    Args:
        shards: of the input.
        layout: where an image is found in its file.
        folder: of the run.
        limit: how many images.

    Raises:
        PreflightError: a shard has changed since an earlier run.
        OSError: the storage failed.
    """
    chosen: dict[str, Unit] = {}
    left, is_whole = limit, True
    for shard in shards:
        units = read_units(folder, shard) if left > 0 else []
        if units is None:
            units = index_shard(shard, layout, first_rows=left)
            write_units(folder, shard, units)
        is_whole = is_whole and left > 0
        for unit in units:
            is_whole = is_whole and left > 0
            if left > 0:
                chosen[unit.name] = unit
                left -= unit.rows
    while True:
        num_chosen = len(chosen)
        joined = join_small_units(list(chosen.values()), folder)
        _add_rest_of_groups(chosen, shards, folder)
        if len(chosen) == num_chosen:
            return joined, is_whole


def _add_rest_of_groups(chosen: dict[str, Unit], shards: list[Shard], folder: RunFolder) -> None:
    """Adds the units that are joined with chosen ones: a part is not committed for the whole."""
    missing = {
        name
        for groups in read_joins(folder)
        for group in groups
        if not chosen.keys().isdisjoint(group)
        for name in group
        if name not in chosen
    }
    if missing:
        noted = (unit for shard in shards for unit in read_noted_units(folder, shard))
        chosen |= {unit.name: unit for unit in noted if unit.name in missing}
