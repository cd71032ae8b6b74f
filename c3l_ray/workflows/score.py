"""Turns that were made elsewhere in, records of scored turns out."""

import logging

from c3l_ray.config import ScoreConfig
from c3l_ray.identity import scoring_identity
from c3l_ray.inputs.find import find_shards
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RecordsReport, RunProgress
from c3l_ray.runs.state import note_failure
from c3l_ray.workflows.budget import count_gpus, hold_to_hours, hold_to_price
from c3l_ray.workflows.prompts import settle_scoring
from c3l_ray.workflows.records import check_turns_readable, make_paths_absolute, write_records

log = logging.getLogger(__name__)


def score_turns(config: ScoreConfig) -> RecordsReport:
    """Scores the turns of the input, and returns what run.json says.

    Raises:
        PreflightError: the job cannot start as it was asked to.
        C3LError: it cannot go on; run again, it resumes.
    """
    hold_to_hours(config)
    config = make_paths_absolute(config)
    folder = RunFolder.open(config.output)
    folder.check_free("score")
    log.info("looking for the input")
    shards = find_shards(config.input, config.layout)
    check_turns_readable(shards)
    log.info("checking the models")
    from c3l_ray.workflows.models import pin_scoring

    run = pin_scoring(config, folder)
    config = settle_scoring(run.config)
    identity = scoring_identity(config, **run.identities)
    identity = folder.claim(identity, "score", mix_versions=config.mix_versions)
    from c3l_ray.distributed import cluster

    progress = RunProgress(folder, config, identity, "score")
    with note_failure(progress.note):
        progress.begin()
        cluster.connect(cluster.count_actors(config.pools), verbose=config.verbose)
        config = cluster.with_scorer_gpus(config)
        hold_to_price(config, count_gpus(config.pools))
        return write_records(config, shards, progress, generates=False)
