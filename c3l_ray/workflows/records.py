"""What workflows share: absolute paths, and records between their identity and their report."""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from c3l_ray.config import RecordsConfig
from c3l_ray.errors import C3LError, PreflightError, Stopped, TooManyFailures, last_line
from c3l_ray.inputs.first_units import plan_first_units
from c3l_ray.inputs.mended import accept_mended_shards
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.commit import Manifest, check_origin, read_manifests
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.lost_files import delete_lost_files
from c3l_ray.runs.report import RecordsReport, RunProgress
from c3l_ray.runs.retry import Retry, count_failed, plan_retry
from c3l_ray.schema import EXCEPTION, FATAL
from c3l_ray.train.training_config import TrainConfig

Config = TypeVar("Config", bound=RecordsConfig | TrainConfig)

LOCAL_FOLDERS = {"layout": "image_root", "scorer": "name", "clip": "name", "model": "name"}
"""Concerns of a config, and the field of each that may be a local folder."""
LOCAL_FILES = {"clip": "weights"}
"""Likewise those that may be a local file."""

MIN_UNEXPECTED = 64
"""Rows that may raise an exception or kill a process in a run of any size before it stops."""

log = logging.getLogger(__name__)


def make_paths_absolute(config: Config) -> Config:
    """The config with absolute local paths, for processes that run in other folders."""

    def with_absolute_path(config: Config, name: str, field: str, *, is_file: bool) -> Config:
        concern = getattr(config, name, None)
        path = getattr(concern, field, None)
        if path is None or not (Path(path).is_file() if is_file else Path(path).is_dir()):
            return config
        changed: Any = {
            name: dataclasses.replace(concern, **{field: str(Path(path).absolute())})  # type: ignore[type-var]
        }
        return dataclasses.replace(config, **changed)

    for name, field in LOCAL_FOLDERS.items():
        config = with_absolute_path(config, name, field, is_file=False)
    for name, field in LOCAL_FILES.items():
        config = with_absolute_path(config, name, field, is_file=True)
    return config


def fields_of(part: type, config: Any) -> dict[str, Any]:
    """The values of a config's fields that one of its base classes has."""
    return {field.name: getattr(config, field.name) for field in dataclasses.fields(part)}


def write_records(
    config: RecordsConfig,
    shards: list[Shard],
    progress: RunProgress,
    *,
    generates: bool,
) -> RecordsReport:
    """Makes the records of these shards that are not there yet, on the cluster we have joined.

    Args:
        config: with its GPU shares decided.
        shards: the whole input.
        progress: of a folder that is claimed.
        generates: whether turns are generated, or answers to those that the input has.

    Raises:
        PreflightError: the input has no image at all.
        C3LError: the job cannot go on.
        TooManyFailures: the rows that fail so that nobody expected it are too many.
        Stopped: a signal asked the job to end; what is committed stays.
    """
    from ray.exceptions import RayError

    from c3l_ray.distributed import cluster, pipeline
    from c3l_ray.distributed.metrics import JobMetrics
    from c3l_ray.distributed.reading import explain_unindexed
    from c3l_ray.distributed.stop_flag import StopFlag, follow

    folder, origin = progress.folder, progress.identity.origin
    progress.config = config
    try:
        done = {manifest.unit: manifest for manifest in read_manifests(folder)}
        retry = None
        if config.retry_failed is not None:
            retry = plan_retry(done.values(), config.retry_failed)
            accept_mended_shards(shards, config.layout, folder, retry.manifests)
        is_whole = True
        unindexed: list[Shard] = []
        if config.limit is None:
            units = pipeline.plan_units(shards, config.layout, folder, unindexed)
        else:
            units, is_whole = plan_first_units(shards, config.layout, folder, config.limit)
        if not unindexed:
            check_images_found(config.input, units)
        progress.total_images = sum(unit.rows for unit in units)
        for manifest in done.values():
            check_origin(folder, manifest, origin)
            progress.add(manifest, new=False)
        remaining = [unit for unit in units if unit.name not in done]
        log.info(
            "%d images in %d shards, %d units; %d of these are done",
            *(progress.total_images, len(shards), len(units), len(units) - len(remaining)),
        )
        num_gone = len(done.keys() - {unit.name for unit in units})
        if num_gone and config.limit is None:
            log.warning(
                "%d committed units are of files that the input no longer holds, such as those of "
                "a run whose failed images were healed since; their images are still counted",
                num_gone,
            )
        passed_over = sum(unit.num_passed_over for unit in units)
        if passed_over:
            log.info("images in tars passed over: %d, hidden or of other endings", passed_over)
        progress.write()

        metrics = JobMetrics(folder.path)
        unexpected: Counter[str] = Counter()

        def process(units: list[Unit], retry: Retry | None = None) -> None:
            flag = StopFlag()
            manifests = pipeline.process_units(
                config,
                folder,
                units,
                origin,
                generates=generates,
                flag=flag,
                retry=retry,
            )
            num_images = sum(unit.rows for unit in units)
            if retry is not None:
                of_units = (retry.manifests[unit.name] for unit in units)
                num_images = sum(count_failed(manifest, retry.reasons) for manifest in of_units)
            manifests = metrics.count_manifests(manifests, num_images, retry)
            with closing(follow(manifests, flag, config.grace)) as followed, _counted(progress):
                progress.follow(
                    bound_failures(followed, progress, config.max_failed_share, unexpected, retry)
                )

        process(remaining)
        if retry is not None:
            failed = [unit for unit in units if unit.name in retry.manifests]
            progress.expect(retry, [unit.name for unit in failed])
            num_failed = progress.counts.status.get("failed", 0)
            process(failed, retry)
            num_healed = num_failed - progress.counts.status.get("failed", 0)
            log.info("%d of %d failed images are healed", num_healed, num_failed)
    except RayError as error:
        raise C3LError(
            f"the job stopped: {last_line(error)}\n"
            f"the log files of its processes are {cluster.find_log_files()}\n"
            f"{progress.counts.images} of {progress.total_images} images are committed in "
            f"{config.output}; the same command resumes"
        ) from error
    delete_lost_files(folder)
    if unindexed:
        raise explain_unindexed(unindexed)
    if is_whole or (progress.was_finished and not remaining):
        return progress.write("finished")
    return progress.write("stopped", measures_scores=True)


def check_turns_readable(shards: Sequence[Shard]) -> None:
    """Refuses shards whose format holds images and no turns.

    Raises:
        PreflightError: names the first of them.
    """
    for shard in shards:
        if shard.format not in ("llava", "parquet"):
            raise PreflightError(
                f"--input {shard.address}: a {shard.format} of images holds "
                "no turns; this job reads LLaVA .json and Parquet, and jobs.generate writes turns "
                "for images"
            )


@contextmanager
def _counted(progress: RunProgress) -> Iterator[None]:
    """Says what is committed where a signal stops the work within."""
    try:
        yield
    except Stopped as stop:
        raise stop.with_detail(
            f"{progress.counts.images} of {progress.total_images} images are committed in "
            f"{progress.folder.path}"
        ) from stop


def bound_failures(
    manifests: Iterable[Manifest],
    progress: RunProgress,
    max_failed_share: float,
    unexpected: Counter[str],
    retry: Retry | None = None,
) -> Iterator[Manifest]:
    """The manifests, as long as not too many rows fail so that nobody expected it.

    The model or the machine may be at fault, and not the rows: then what is left is better done
    when that is mended. Rows of earlier commands do not count, since it may be mended by now.

    Args:
        manifests: that this command commits.
        progress: of the run.
        max_failed_share: of the images, which may fail so.
        unexpected: what this command has counted so far, by reason; these are added.
        retry: of the units, where only failed rows are done again.

    Raises:
        TooManyFailures: after the manifest with the row that is too many.
    """
    total = progress.total_images or 0
    allowed = max(MIN_UNEXPECTED, max_failed_share * total)
    for manifest in manifests:
        yield manifest
        for reason in (EXCEPTION, FATAL):
            kept = 0
            if retry is not None and reason not in retry.reasons:
                kept = retry.manifests[manifest.unit].counts.reasons.get(reason, 0)
            unexpected[reason] += max(0, manifest.counts.reasons.get(reason, 0) - kept)
        if unexpected.total() > allowed:
            examples = manifest.counts.failure_examples
            example = next(examples[reason] for reason in (EXCEPTION, FATAL) if reason in examples)
            raise TooManyFailures(
                f"the job stops at {progress.counts.images} of {total} images, since "
                f"{unexpected.total()} failed in a way that is no fault of an image's, for "
                f"example {example}. Folder errors of {progress.folder.path} has the traces; what "
                "was written stays. Once the cause is mended, the same command does the images "
                f"that are left, and with --retry-failed {' '.join(+unexpected)} these again"
            )


def check_images_found(inputs: Sequence[str], units: Sequence[Unit]) -> None:
    """Refuses an input in which indexing found no image, whole or broken.

    Raises:
        PreflightError: there is nothing to make records of.
    """
    if not any(unit.num_found for unit in units):
        damage = next((f"; damaged at {unit.damage}" for unit in units if unit.damage), "")
        raise PreflightError(f"--input {' '.join(inputs)}: holds no image{damage}")


def check_failures(report: Counts, max_failed_share: float) -> None:
    """Refuses a finished run with more failed images than the user allows, or nothing scored.

    Raises:
        TooManyFailures: what was written stays.
    """
    unscored = report.turn_status.get("unscored", 0)
    if unscored and not report.turn_status.get("ok"):
        raise TooManyFailures(
            f"the scorer failed on all of the {unscored} turns that it was to score, for example "
            f"{next(iter(report.fault_examples.values()), 'for no known reason')}"
        )
    failed = report.status.get("failed", 0)
    if failed > max_failed_share * report.images:
        raise TooManyFailures(
            f"{failed} of {report.images} images failed, over the share of {max_failed_share} that "
            "--max-failed-share allows; what was written stays"
        )
