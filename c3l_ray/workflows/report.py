"""The report for people: one HTML page of what jobs made, finished or not."""

import os
from collections.abc import Sequence
from pathlib import PurePosixPath

from c3l_ray.errors import PreflightError, first_line
from c3l_ray.methods.scores import RankedBy
from c3l_ray.report.gather import Findings, find_outputs
from c3l_ray.report.page import make_page
from c3l_ray.report.turn_table import MAX_TURNS_READ
from c3l_ray.storage import Location

PAGE = "report.html"
MAX_TURNS_SHOWN = 240


def write_report(
    runs: Sequence[str],
    *,
    output: str | None = None,
    by: RankedBy | None = None,
    max_turns: int = MAX_TURNS_SHOWN,
    max_turns_read: int = MAX_TURNS_READ,
) -> str:
    """Writes the page about these outputs of jobs, and returns where it lies.

    Args:
        runs: folders of jobs.generate, score, answer, train, select, c3l or evaluate benchmark.
        output: the file; None is report.html in the first folder that is no dataset.
        by: the score that ranks the turns shown; None takes the latest selection's.
        max_turns: to show.
        max_turns_read: of each run, for statistics.

    Raises:
        PreflightError: a folder is no output of a job, or the page cannot lie where it should.
        C3LError: records, manifests or a dataset cannot be read.
        OSError: the storage failed.
    """
    findings = find_outputs(runs)
    page = _choose_place(runs, findings, output)
    names = [PurePosixPath(path).name or path for path in runs]
    text = make_page(
        findings,
        title=", ".join(names),
        by=by,
        max_turns=max_turns,
        max_turns_read=max_turns_read,
    )
    # Texts of models may hold halves of surrogate pairs, which no encoding has.
    page.write(text.encode("utf-8", errors="replace"))
    return page.address


def describe_report(runs: Sequence[str]) -> str:
    """Writes the page as the last thing that a job does, and returns a line on it.

    What goes wrong is said in the line, and ends nothing: the job has done its work.
    """
    try:
        return f"  page     {write_report(runs)}"
    except Exception as error:
        return f"  page     could not be written: {type(error).__name__}: {first_line(error)}"


def _choose_place(runs: Sequence[str], findings: Findings, output: str | None) -> Location:
    if output is None:
        datasets = {one.folder.location.address for one in findings.datasets}
        folders = [Location.parse(path, "RUN") for path in runs]
        for folder in folders:
            if folder.address not in datasets:
                return folder / PAGE
        raise PreflightError(
            f"RUN {' '.join(runs)}: holds datasets only, where the page may not lie; name the run "
            "that they were selected from, or a file by --output"
        )
    page = Location.parse(output, "--output")
    if not page.name.endswith((".html", ".htm")):
        raise PreflightError(f"--output {output}: name a file that ends in .html")
    if page.is_local and os.path.isdir(page.path):
        raise PreflightError(f"--output {output}: is a folder; name a file that ends in .html")
    return page
