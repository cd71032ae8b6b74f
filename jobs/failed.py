"""Lists the images of a run that failed, each with the reason.

    python -m jobs.failed s3://bucket/run --reason undecodable unreadable

Reads the output folder of jobs.generate or jobs.score: its manifests, and
columns of the files in which images failed. Prints a line for each image, as a
table or as JSON. It writes nothing.

Exit status: 0 listed, 2 no such run or reason, 130 stopped by Ctrl-C, 143 by
SIGTERM, 1 any other failure.
"""

import dataclasses
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import tyro

from c3l_ray.flags import optional
from jobs.command_line import main

if TYPE_CHECKING:
    from c3l_ray.runs.failures import Failure

ALIGNED_LINES = 256  # by whose widths all are


@dataclass(frozen=True, kw_only=True)
class FailedConfig:
    """List the images of a run that failed."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Output folder of jobs.generate or jobs.score, local or s3://."""
    reason: Annotated[tuple[str, ...], optional("WORD ...")] = ()
    """Only those whose error begins with one of these words (default: all)."""
    json: bool = False
    """Print an object in JSON on each line, in place of a table."""


def run(config: FailedConfig) -> None:
    """Prints a line for each failed image.

    Raises:
        PreflightError: the folder is no run, or no image failed for a reason that was named.
    """
    from c3l_ray.runs.failures import find_failures
    from c3l_ray.runs.folder import RunFolder

    folder = RunFolder.open(config.run, "RUN")
    folder.read_run(takes_benchmark=True)
    failures = find_failures(folder, config.reason)
    if config.json:
        for failure in failures:
            print(json.dumps(dataclasses.asdict(failure)))
    else:
        for line in format_lines(failures):
            print(line)


def format_lines(failures: "Iterator[Failure]") -> Iterator[str]:
    """The lines of a table: of each image its source, its key and its error."""
    from c3l_ray.runs.turn_tables import make_printable

    rows = (
        (make_printable(failure.source), make_printable(failure.key), make_printable(failure.error))
        for failure in failures
    )
    first_rows = [("source", "key", "error"), *itertools.islice(rows, ALIGNED_LINES)]
    widths = [max(len(row[column]) for row in first_rows) for column in (0, 1)]
    for source, key, error in itertools.chain(first_rows, rows):
        yield f"{source:<{widths[0]}}  {key:<{widths[1]}}  {error}"


def run_command(program: str = "python -m jobs.failed") -> None:
    main(FailedConfig, run, __doc__, program)


if __name__ == "__main__":
    run_command()
