"""A selection that is made already: the same settings, from the same run as it is now."""

import dataclasses
import logging
from typing import Any

from c3l_ray import __version__
from c3l_ray.dataset.report import note_settings
from c3l_ray.dataset.select import select_turns
from c3l_ray.runs.folder import REPORT, SELECTION, RunFolder
from c3l_ray.select_config import SelectConfig

log = logging.getLogger(__name__)


def select_once(config: SelectConfig) -> dict[str, Any]:
    """Makes a dataset where it is not there yet, and returns its selection.json.

    Raises:
        PreflightError, C3LError: as `select_turns`.
        OSError: the storage failed.
    """
    return find_finished_selection(config) or dataclasses.asdict(select_turns(config))


def find_finished_selection(config: SelectConfig) -> dict[str, Any] | None:
    """selection.json of a dataset that would come out the same again; None where none would.

    Args:
        config: of the selection, which names its output.

    Raises:
        OSError: the storage failed.
    """
    assert config.output is not None
    target = RunFolder.open(config.output)
    report = target.read_json(SELECTION)
    run = RunFolder.open(config.input, "--input").read_json(REPORT)
    if not report or not run or report.get("finished") is None or run.get("finished") is None:
        return None
    wanted = {
        "version": __version__,
        "origin": run["origin"],
        "input_finished": run["finished"],
        **note_settings(config),
    }
    if any(report.get(name) != value for name, value in wanted.items()):
        return None
    location = target.location
    files = [path for path in location.fs.find(location.path) if path.endswith(".parquet")]
    if len(files) != report.get("files"):
        return None
    log.info("%s holds this selection already", config.output)
    return dict(report)
