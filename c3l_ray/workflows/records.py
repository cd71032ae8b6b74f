"""What workflows share: absolute paths, and records between their identity and their report."""

import dataclasses
import logging
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

from c3l_ray.config import RecordsConfig
from c3l_ray.errors import C3LError, PreflightError, Stopped, TooManyFailures, last_line
from c3l_ray.identity import Identity
from c3l_ray.inputs.units import Shard, Unit
from c3l_ray.runs.commit import Manifest, check_origin, delete_lost_files, read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RecordsReport, RunProgress
from c3l_ray.schema import EXCEPTION, FATAL
from c3l_ray.train.training_config import TrainConfig

Config = TypeVar("Config", bound=RecordsConfig | TrainConfig)

LOCAL_PATHS = {"layout": "image_root", "scorer": "name", "clip": "name", "model": "name"}
"""Concerns of a config, and the field of each that may be a local path."""

MIN_UNEXPECTED = 64
"""Rows that may raise an exception or kill a process in a run of any size before it stops."""

log = logging.getLogger(__name__)


def make_paths_absolute(config: Config) -> Config:
    """The config with absolute local paths, for processes that run in other folders."""

    def with_absolute_path(concern: Any, field: str) -> Any:
        path = getattr(concern, field)
        if path is None or not Path(path).is_dir():
            return concern
        return dataclasses.replace(concern, **{field: str(Path(path).absolute())})

    concerns = {field.name for field in dataclasses.fields(config)} & set(LOCAL_PATHS)
    changed = {
        name: with_absolute_path(getattr(config, name), LOCAL_PATHS[name]) for name in concerns
    }
    return dataclasses.replace(config, **changed)


def write_records(
    config: RecordsConfig,
    shards: list[Shard],
    identity: Identity,
    folder: RunFolder,
    *,
    job: str,
    generates: bool,
) -> RecordsReport:
    """Makes the records of these shards that are not there yet, on the cluster we have joined.

    Args:
        config: with its GPU shares decided.
        shards: the whole input.
        identity: what defines a row's content.
        folder: claimed for it.
        job: that runs.
        generates: whether turns are generated; else the input has them.

    Raises:
        PreflightError: the input has no image at all.
        C3LError: the job cannot go on.
        TooManyFailures: the rows that fail so that nobody expected it are too many.
        Stopped: a signal asked the job to end; what is committed stays.
    """
    from ray.exceptions import RayError

    from c3l_ray.distributed import cluster, pipeline
    from c3l_ray.distributed.stop_flag import StopFlag, follow

    progress = RunProgress(folder, config, identity, job)
    try:
        units = pipeline.plan_units(shards, config.layout, folder)
        check_images_found(config.input, units)
        progress.total_images = sum(unit.rows for unit in units)
        done = set()
        for manifest in read_manifests(folder):
            check_origin(folder, manifest, identity.origin)
            progress.add(manifest, new=False)
            done.add(manifest.unit)
        remaining = [unit for unit in units if unit.name not in done]
        log.info(
            "%d images in %d shards, %d units; %d of these are done",
            *(progress.total_images, len(shards), len(units), len(units) - len(remaining)),
        )
        passed_over = sum(unit.num_passed_over for unit in units)
        if passed_over:
            log.info("images in tars passed over: %d, hidden or of other endings", passed_over)
        progress.write()
        flag = StopFlag()
        manifests = pipeline.process_units(
            config, folder, remaining, identity.origin, generates=generates, flag=flag
        )
        with closing(follow(manifests, flag, config.grace)) as followed, _written_at_end(progress):
            progress.follow(bound_failures(followed, progress, config.max_failed_share))
    except RayError as error:
        progress.write()
        raise C3LError(
            f"the job stopped: {last_line(error)}\n"
            f"the log files of its processes are {cluster.find_log_files()}\n"
            f"{progress.counts.images} of {progress.total_images} images are committed in "
            f"{config.output}; run the same command again to go on from there"
        ) from error
    delete_lost_files(folder)
    return progress.write(finished=True)


@contextmanager
def _written_at_end(progress: RunProgress) -> Iterator[None]:
    """Writes run.json where the work within ends before its time."""
    try:
        yield
    except TooManyFailures:
        progress.write()
        raise
    except Stopped as stop:
        progress.write()
        raise Stopped(
            stop.signal,
            f"{progress.counts.images} of {progress.total_images} images are committed in "
            f"{progress.folder.path}",
        ) from stop


def bound_failures(
    manifests: Iterable[Manifest], progress: RunProgress, max_failed_share: float
) -> Iterator[Manifest]:
    """The manifests, as long as not too many rows fail so that nobody expected it.

    The model or the machine may be at fault, and not the rows: then what is left is better done
    when that is mended.

    Raises:
        TooManyFailures: after the manifest with the row that is too many.
    """
    total = progress.total_images or 0
    allowed = max(MIN_UNEXPECTED, max_failed_share * total)
    for manifest in manifests:
        yield manifest
        reasons = progress.counts.reasons
        unexpected = {name: reasons[name] for name in (EXCEPTION, FATAL) if reasons.get(name)}
        if sum(unexpected.values()) > allowed:
            example = progress.counts.failure_examples[next(iter(unexpected))]
            raise TooManyFailures(
                f"the job stops at {progress.counts.images} of {total} images, since "
                f"{sum(unexpected.values())} failed in a way that is no fault of an image's, for "
                f"example {example}. Folder errors of {progress.folder.path} has the traces; what "
                "was written stays"
            )


def check_images_found(inputs: Sequence[str], units: Sequence[Unit]) -> None:
    """Refuses an input in which indexing found no image, whole or broken.

    Raises:
        PreflightError: there is nothing to make records of.
    """
    if not any(unit.num_found for unit in units):
        damage = next((f"; damaged at {unit.damage}" for unit in units if unit.damage), "")
        raise PreflightError(f"--input {' '.join(inputs)}: holds no image{damage}")


def check_failures(report: RecordsReport, max_failed_share: float) -> None:
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
