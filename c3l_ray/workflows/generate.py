"""Shards of images in, records of scored turns out."""

import logging

from c3l_ray.config import GenerateConfig
from c3l_ray.identity import generation_identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RecordsReport, RunProgress
from c3l_ray.runs.state import note_failure
from c3l_ray.workflows.budget import count_gpus, hold_to_hours, hold_to_price
from c3l_ray.workflows.prompts import settle_generation
from c3l_ray.workflows.records import make_paths_absolute, write_records

log = logging.getLogger(__name__)


def generate_records(config: GenerateConfig) -> RecordsReport:
    """Writes and scores turns for the images of the input, and returns what run.json says.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes.
    """
    hold_to_hours(config)
    config = make_paths_absolute(config)
    folder = RunFolder.open(config.output)
    folder.check_free("generate")
    log.info("looking for the input")
    shards = find_shards(config.input, config.layout)
    if config.scorer.name is None:
        log.info("the scorer is %s, the generator itself (--scorer.name)", config.scorer_name)
    log.info("checking the models")
    from c3l_ray.workflows.models import pin_generation

    run = pin_generation(config, folder)
    config = settle_generation(run.config)
    identity = generation_identity(config, **run.identities)
    identity = folder.claim(identity, "generate", mix_versions=config.mix_versions)
    from c3l_ray.distributed import cluster

    progress = RunProgress(folder, config, identity, "generate")
    with note_failure(progress.note):
        progress.begin()
        cluster.connect(cluster.count_actors(config.pools), verbose=config.verbose)
        config = cluster.with_gpu_shares(config)
        hold_to_price(config, count_gpus(config.pools))
        return write_records(config, shards, progress, generates=True)
