"""What a run of jobs.generate will cost: its input is counted, and a few of its images are run."""

import contextlib
import dataclasses
import datetime
import logging
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from c3l_ray import storage
from c3l_ray.config import GenerateConfig
from c3l_ray.errors import C3LError, Stopped, TooManyFailures
from c3l_ray.flags import shown_first
from c3l_ray.identity import Identity, generation_identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.units import Shard
from c3l_ray.planning.cost import Devices, Plan, make_plan
from c3l_ray.planning.input_count import count_input, draw_shards
from c3l_ray.planning.sample import LAYOUT, Sample, draw_sample, write_sample
from c3l_ray.planning.sample_run import SampleRun, measure_sample
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import REPORT, RunFolder
from c3l_ray.runs.report import RunProgress
from c3l_ray.workflows.prompts import settle_generation, settle_instructions
from c3l_ray.workflows.records import (
    check_images_found,
    fields_of,
    make_paths_absolute,
    write_records,
)

log = logging.getLogger(__name__)


@shown_first(
    "input", "output", "sample", "count_shards", "price_per_hour", "max_hours", "max_price", "json"
)
@dataclass(frozen=True, kw_only=True)
class PlanConfig(GenerateConfig):
    """A run of jobs.generate, and how it is planned."""

    output: str
    """Folder that the run is to write, local or s3://; a plan leaves nothing in it."""
    sample: Annotated[int, Range(min=2, max=256)] = 16
    """Images to run through generation and scoring, drawn from all counted shards."""
    count_shards: Annotated[int, Range(min=2)] = 32
    """Shards whose images are counted; of more than these, so many are drawn at random."""
    sample_seed: Annotated[int, Range(min=0)] = 0
    """Seed of which shards are counted and which images are run."""
    json: bool = False
    """Print the plan as JSON, in place of text."""

    def conflicts(self) -> Conflicts:
        yield from super().conflicts()
        if self.retry_failed is not None:
            yield "retry_failed", "a plan is of images that are still to do, not of failed ones"
        if not self.score:
            yield "score", "a plan measures generation and scoring; drop --no-score from it"


def plan_generation(config: PlanConfig) -> Plan:
    """Counts the input, runs a sample of its images, and returns what the run will cost.

    The sample runs in a folder of its own in the output, which every node of the cluster sees, and
    which is removed in the end.

    Raises:
        PreflightError: the run could not start as it was asked to.
        TooManyFailures: none of the sampled images can be used.
        C3LError: the sample could not be run.
    """
    config = settle_instructions(make_paths_absolute(config))
    run_config = GenerateConfig(**fields_of(GenerateConfig, config))
    folder = RunFolder.open(config.output)
    folder.check_free("generate")
    log.info("looking for the input")
    shards = find_shards(config.input, config.layout)
    log.info("checking the models")
    from c3l_ray.workflows.models import pin_generation

    pinned = pin_generation(run_config, folder)
    run_config = settle_generation(pinned.config)
    identity = generation_identity(run_config, **pinned.identities)
    done_images = count_done_images(folder, identity, mix_versions=config.mix_versions)

    from c3l_ray.distributed import cluster, pipeline

    started = time.monotonic()
    cluster.connect(2, verbose=config.verbose)
    connect_s = time.monotonic() - started
    sample_config = cluster.with_one_of_each(run_config)
    counted = draw_shards(shards, config.count_shards, config.sample_seed)
    with _scratch_folder(folder) as scratch:
        units = pipeline.plan_units(counted, config.layout, _open_inside(scratch, "count"))
        if len(counted) == len(shards):
            check_images_found(config.input, units)
        count = count_input(shards, counted, units)
        sample = draw_sample(units, config.layout, config.sample, config.sample_seed)
        _check_readable(sample)
        log.info("running %d of %d sampled images", len(sample.readable), len(sample.shards))
        measured = run_sample(sample, sample_config, scratch, identity, connect_s)
    pools = cluster.choose_pools(run_config)
    kind, number = cluster.count_devices(pools.gpus)
    return make_plan(
        run_config,
        count,
        measured,
        dataclasses.replace(run_config.pools, **dataclasses.asdict(pools)),
        Devices(kind=kind, number=number, cores=cluster.count_cores()),
        done_images=done_images,
        now=datetime.datetime.now(datetime.UTC),
    )


def count_done_images(folder: RunFolder, identity: Identity, *, mix_versions: bool) -> int:
    """The images that are committed in an output, which is left as it is.

    Raises:
        PreflightError: they are of another origin, so that the run would be refused.
    """
    manifests = list(read_manifests(folder))
    if not manifests:
        return 0
    if (folder.read_json(REPORT) or {}).get("origin") != identity.origin:
        folder.claim(identity, "generate", mix_versions=mix_versions)
    return sum(manifest.counts.images for manifest in manifests)


def run_sample(
    sample: Sample,
    config: GenerateConfig,
    scratch: RunFolder,
    identity: Identity,
    connect_s: float,
) -> SampleRun:
    """Generates and scores the readable images of a sample, as jobs.generate does.

    Args:
        sample: with an image that is readable.
        config: of the run, with one process of each pool.
        scratch: folder for the sample and its run.
        identity: of the run.
        connect_s: seconds that joining the cluster took.

    Raises:
        TooManyFailures: no image gave a turn.
        C3LError: the sample could not be run.
    """
    run = _open_inside(scratch, "run")
    run.claim(identity, "generate")
    shard: Shard = write_sample(sample, _open_inside(scratch, "sample"), run)
    config = dataclasses.replace(
        config,
        input=(shard.address,),
        output=run.path,
        layout=LAYOUT,
        limit=None,
        max_failed_share=1.0,
    )
    progress = RunProgress(run, config, identity, "generate")
    try:
        write_records(config, [shard], progress, generates=True)
    except Stopped as stop:  # nothing of it is kept
        raise Stopped(stop.signal) from stop
    except TooManyFailures:
        raise
    except C3LError as error:
        raise C3LError(f"the sample of the plan could not be run: {error}") from error
    boot_s = connect_s + (progress.boot_s or 0.0)
    return measure_sample(sample, run, boot_s, config.pools, keeps_images=config.keep_images)


def _check_readable(sample: Sample) -> None:
    """Refuses a sample in which there is nothing for a model to see.

    Raises:
        TooManyFailures: none of its images can be read.
    """
    if not sample.readable:
        raise TooManyFailures(
            f"none of the {len(sample.shards)} sampled images can be read, for example "
            f"{sample.rows['error'][0].as_py()}"
        )


def _open_inside(folder: RunFolder, name: str) -> RunFolder:
    location = folder.location / name
    return RunFolder(location, location.address, folder.flag)


@contextlib.contextmanager
def _scratch_folder(output: RunFolder) -> Iterator[RunFolder]:
    """A folder in the output that is there within; folders that are made for it go with it."""
    scratch = _open_inside(output, f"plan-{uuid.uuid4().hex[:12]}")
    made = []
    if output.location.is_local:
        path = Path(output.location.path)
        made = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        yield scratch
    finally:
        try:
            scratch.location.remove(recursive=True)
        except FileNotFoundError:
            pass  # nothing was written
        except storage.ERRORS as error:
            log.warning("%s could not be removed, and may be: %s", scratch.path, error)
        with contextlib.suppress(OSError):  # not empty: a job has begun there meanwhile
            for folder in made:
                folder.rmdir()
