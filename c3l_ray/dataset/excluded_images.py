"""Images whose turns are no candidates of a selection: a benchmark has them, or the run itself.

Images that look alike count as the same image (`near_images`).
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from c3l_ray.dataset.near_images import NearImages, hash_images
from c3l_ray.errors import PreflightError
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout, TurnsLayout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.runs.commit import Manifest, iterate_records
from c3l_ray.runs.folder import RunFolder

BENCHMARK_FLAG = "--exclude-benchmark"
DUPLICATES_FLAG = "--drop-near-duplicates"

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class ExcludedImages:
    """The images of a run that are left out.

    Attributes:
        rows: by unit, the rows of the run whose image is left out.
        num_benchmark_images: images of benchmarks that could be compared.
        num_in_benchmarks: images of the run that benchmarks have.
        num_near_duplicates: further images that look like an earlier one of the run.
        num_not_compared: images of the run that are missing, damaged, or of one colour; they stay.
    """

    rows: Mapping[str, frozenset[int]] = field(default_factory=dict)
    num_benchmark_images: int = 0
    num_in_benchmarks: int = 0
    num_near_duplicates: int = 0
    num_not_compared: int = 0


def find_excluded(
    source: RunFolder,
    manifests: Mapping[str, Manifest],
    benchmarks: Sequence[str],
    *,
    drops_near_duplicates: bool,
) -> ExcludedImages:
    """The images of a run that benchmarks have too, or that look like an earlier one of the run.

    Args:
        source: the run.
        manifests: of its files, by unit.
        benchmarks: paths: whatever jobs.score reads, or images alone.
        drops_near_duplicates: whether of images that look alike only the first stays.

    Raises:
        PreflightError: pdqhash is not installed, a path cannot be read, or it holds no image that
            can be compared.
    """
    if not (benchmarks or drops_near_duplicates):
        return ExcludedImages()
    of_benchmarks = _hash_benchmarks(benchmarks) if benchmarks else NearImages()
    earlier = NearImages()
    flag = BENCHMARK_FLAG if benchmarks else DUPLICATES_FLAG
    rows: dict[str, frozenset[int]] = {}
    num_in_benchmarks = num_near_duplicates = num_not_compared = 0
    for unit, manifest in manifests.items():
        images = (
            image
            for batch in iterate_records(source, manifest, ["image"])
            for image in batch["image"].to_pylist()
        )
        excluded: set[int] = set()
        for row, image_hash in enumerate(hash_images(images, flag)):
            if image_hash is None:
                num_not_compared += 1
            elif of_benchmarks.has_near(image_hash):
                num_in_benchmarks += 1
                excluded.add(row)
            elif drops_near_duplicates and earlier.has_near(image_hash):
                num_near_duplicates += 1
                excluded.add(row)
            elif drops_near_duplicates:
                earlier.add(image_hash)
        rows[unit] = frozenset(excluded)
    return ExcludedImages(
        rows=rows,
        num_benchmark_images=len(of_benchmarks),
        num_in_benchmarks=num_in_benchmarks,
        num_near_duplicates=num_near_duplicates,
        num_not_compared=num_not_compared,
    )


def _hash_benchmarks(paths: Sequence[str]) -> NearImages:
    """The hashes of the images of benchmarks, at least one."""
    hashes = NearImages()
    num_images = 0
    for image_hash in hash_images(_read_images(paths), BENCHMARK_FLAG):
        num_images += 1
        if image_hash is not None:
            hashes.add(image_hash)
    if not len(hashes):
        raise PreflightError(
            f"{BENCHMARK_FLAG} {' '.join(paths)}: none of its {num_images} images can be compared"
        )
    if len(hashes) < num_images:
        log.warning(
            "%d of %d images of the benchmark cannot be compared: they are missing, damaged, or "
            "of one colour",
            *(num_images - len(hashes), num_images),
        )
    return hashes


def _read_images(paths: Sequence[str]) -> Iterator[bytes | None]:
    try:
        for shard in find_shards(tuple(paths), Layout()):
            layout = TurnsLayout() if shard.format == "llava" else Layout()
            for unit in index_shard(shard, layout):
                yield from read_unit(unit, layout)["image"].to_pylist()
    except PreflightError as error:
        raise PreflightError(str(error).replace("--input", BENCHMARK_FLAG, 1)) from error
