"""Shards that changed since they were indexed, taken where they hold the same images in each unit.

Failed images are mended in place: a file of a folder is replaced, a tar is written anew.
"""

import logging
from collections.abc import Iterable

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.index import has_changed, read_noted_units, write_units
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.folder import RunFolder

log = logging.getLogger(__name__)


PLACED_BY_BYTES = ("tar", "llava")  # formats whose units are ranges of bytes


def accept_mended_shards(
    shards: list[Shard], layout: Layout, folder: RunFolder, failed: Iterable[str]
) -> None:
    """Indexes the shards anew that have changed since a run was begun.

    A local file may have changed and be as large as it was: those with failed images are indexed
    anew where their units would be read from other bytes.

    Args:
        shards: of the input.
        layout: where an image is found in its file.
        folder: of the run, in which they are noted.
        failed: names of the units with images to do again.

    Raises:
        PreflightError: a shard has other units now, or units of another size.
        OSError: the storage failed.
    """
    with_failures = {unit.rpartition("-")[0] for unit in failed}
    for shard in shards:
        may_have_changed = (
            shard.etag is None and shard.format in PLACED_BY_BYTES and shard.name in with_failures
        )
        if not may_have_changed and not has_changed(folder, shard):
            continue
        before, now = read_noted_units(folder, shard), index_shard(shard, layout)
        if [_shape(unit) for unit in before] != [_shape(unit) for unit in now]:
            raise PreflightError(
                f"--retry-failed --input {shard.address}: has changed since {folder.path} was "
                f"begun, and its {sum(unit.rows for unit in before)} images are now "
                f"{sum(unit.rows for unit in now)}, or lie in other units. Choose another output "
                "for the changed data"
            )
        if before != now:
            log.info("--input %s: has changed; its failed images are read anew", shard.address)
        write_units(folder, shard, now)


def _shape(unit: Unit) -> tuple[str, int, dict[str, int]]:
    return unit.name, unit.rows, unit.repeats
