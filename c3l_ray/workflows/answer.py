"""Turns in, records of the same turns with more answers to their questions out."""

import logging

from c3l_ray.answer_config import AnswerConfig
from c3l_ray.identity import answering_identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RecordsReport, RunProgress
from c3l_ray.runs.state import note_failure
from c3l_ray.workflows.budget import count_gpus, hold_to_hours, hold_to_price
from c3l_ray.workflows.prompts import settle_template_args
from c3l_ray.workflows.records import check_turns_readable, make_paths_absolute, write_records

log = logging.getLogger(__name__)


def answer_questions(config: AnswerConfig) -> RecordsReport:
    """Samples more answers to the input's questions, scores all; returns what run.json says.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes.
    """
    hold_to_hours(config)
    config = make_paths_absolute(config)
    folder = RunFolder.open(config.output)
    folder.check_free("answer")
    log.info("looking for the input")
    shards = find_shards(config.input, config.layout)
    check_turns_readable(shards)
    if config.scorer.name is None:
        log.info("the scorer is %s, the generator itself (--scorer.name)", config.scorer_name)
    log.info("checking the models")
    from c3l_ray.workflows.models import pin_generation

    run = pin_generation(config, folder)
    config = settle_template_args(run.config)
    identity = answering_identity(config, **run.identities)
    identity = folder.claim(identity, "answer", mix_versions=config.mix_versions)
    from c3l_ray.distributed import cluster

    progress = RunProgress(folder, config, identity, "answer")
    with note_failure(progress.note):
        progress.begin()
        cluster.connect(cluster.count_actors(config.pools), verbose=config.verbose)
        config = cluster.with_gpu_shares(config)
        hold_to_price(config, count_gpus(config.pools))
        return write_records(config, shards, progress, generates=True)
