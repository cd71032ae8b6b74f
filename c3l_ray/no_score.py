"""Turns that are generated now and scored later: what --no-score excludes, and how to go on."""

import dataclasses
import shlex
from collections.abc import Mapping
from typing import Any

from c3l_ray.errors import PreflightError
from c3l_ray.ranges import Conflicts

NEEDS_SCORES = "needs scores, and --no-score leaves them to jobs.score; drop one of both"
NOT_SCORED = "belongs to the scoring, which --no-score leaves to jobs.score; drop one of both"


def find_conflicts(config: Any) -> Conflicts:
    """The flags of a `GenerateConfig` that are about scores, where it makes none.

    Yields:
        The path of a field, and what is wrong with it.
    """
    if config.score:
        return
    for name in ("keep_best", "token_gains"):
        if getattr(config, name):
            yield name, NEEDS_SCORES
    if not config.keep_images:
        yield "keep_images", "jobs.score finds the images in the records of --no-score; keep them"
    pools = ("scorers", "scorer_gpus")
    for concern, names in (("scorer", None), ("clip", None), ("pools", pools)):
        given = getattr(config, concern)
        for field in dataclasses.fields(given):
            is_set = getattr(given, field.name) != field.default
            if is_set and (names is None or field.name in names):
                yield f"{concern}.{field.name}", NOT_SCORED


def check_scored(flag: str, path: str, run: Mapping[str, Any]) -> None:
    """Refuses a run whose turns were made with --no-score.

    Args:
        flag: that names the run, such as "--input".
        path: of its folder.
        run: its run.json.

    Raises:
        PreflightError: says how to score it.
    """
    if lacks_scores(run):
        raise PreflightError(
            f"{flag} {path}: its turns have no scores, since they were made with --no-score; "
            f"score them, and take that output:\n{make_scoring_command(path, run)}"
        )


def lacks_scores(run: Mapping[str, Any]) -> bool:
    """Whether a run.json is of a run whose turns were made with --no-score."""
    config = run.get("config")
    return isinstance(config, Mapping) and config.get("score") is False


def make_scoring_command(path: str, run: Mapping[str, Any]) -> str:
    """The command that scores such a run with the model that wrote its turns."""
    model = run["config"]["model"]["name"]
    folder, scored = shlex.quote(path), shlex.quote(f"{path.rstrip('/')}-scored")
    return (
        f"python -m jobs.score --input {folder} --output {scored} "
        f"--scorer.name {shlex.quote(str(model))}"
    )
