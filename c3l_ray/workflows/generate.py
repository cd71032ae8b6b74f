"""Shards of images in, records of scored turns out."""

import logging

from c3l_ray.config import GenerateConfig
from c3l_ray.identity import generation_identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RecordsReport
from c3l_ray.workflows.prompts import settle_generation
from c3l_ray.workflows.records import make_paths_absolute, write_records

log = logging.getLogger(__name__)


def generate_records(config: GenerateConfig) -> RecordsReport:
    """Writes and scores turns for the images of the input, and returns what run.json says.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes.
    """
    config = make_paths_absolute(config)
    shards = find_shards(config.input, config.layout)
    folder = RunFolder.open(config.output)
    if config.scorer.name is None:
        log.info("the scorer is %s, the generator itself (--scorer.name)", config.scorer_name)
    from c3l_ray.inference.model_check import check_clip, check_model

    model = check_model("--model.name", config.model.name)
    is_same = config.scorer_name == config.model.name
    scorer = model if is_same else check_model("--scorer.name", config.scorer_name)
    clip = check_clip(config.clip.name, config.clip.weights)
    config = settle_generation(config)
    identity = generation_identity(config, model=model, scorer=scorer, clip=clip)
    folder.claim(identity, "generate")
    from c3l_ray.distributed import cluster

    cluster.connect(config.pools.generators + config.pools.scorers)
    config = cluster.with_gpu_shares(config)
    return write_records(config, shards, identity, folder, job="generate", generates=True)
