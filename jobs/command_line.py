"""How every job starts and ends: flags in, one message and one exit status out."""

import os
import sys
from collections.abc import Callable
from typing import TypeVar

import tyro

from c3l_ray.errors import C3LError

Config = TypeVar("Config")


def main(config: type[Config], job: Callable[[Config], None], description: str) -> None:
    """Parses the flags, runs the job, and ends the process with its exit status."""
    # One torch thread a process: several busy ones on shared cores spin at every barrier.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    name = sys.modules["__main__"].__spec__.name  # type: ignore[union-attr]  # run with -m
    try:
        job(tyro.cli(config, prog=f"python -m {name}", description=description))
    except C3LError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_status)
    except OSError as error:  # a full disk, a folder gone, storage out of reach
        print(f"error: the storage failed: {error}; the same command goes on", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)


def cause(error: Exception) -> str:
    """The last line that says something: Ray wraps the cause in the traces of its processes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
