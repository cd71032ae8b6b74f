"""Runs a job so that KubeRay does not begin again what would end in the same way.

    python -m c3l_ray.kuberay_job jobs.generate --input s3://bucket/shards ...

A RayJob with a `backoffLimit` makes a new cluster for every command that fails, with whatever
status. A job that refuses its flags or input (2), or whose images fail (4), would be refused again.
One whose time is up (5) would go on for as long again, which is what the user did not want. Such an
end is noted under `not_done` in run.json of the output.
"""

import os
import runpy
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

FINAL = {
    2: "it is refused as it was asked for",
    4: "more images failed than --max-failed-share allows, or nothing was scored",
    5: "it has worked for --max-hours, or for --max-price",
}
"""Exit statuses after which repeating the command cannot help, and why."""
USAGE = "usage: python -m c3l_ray.kuberay_job jobs.NAME [FLAGS]"


def main() -> None:
    """Runs the job that the first argument names, with the others as its flags.

    Raises:
        SystemExit: the job's, unless its status is one of FINAL: then this process ends with 0.
    """
    module, *flags = sys.argv[1:] or [""]
    if module in ("-h", "--help"):
        print(f"{USAGE}\n\n{__doc__}")
        return
    if not module.startswith("jobs."):
        print(USAGE, file=sys.stderr)
        sys.exit(1)
    sys.argv = [module, *flags]
    # A job that a thread still follows ends so, at once.
    os._exit = _translate_exit(os._exit, flags)  # type: ignore[assignment]
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code not in FINAL:
            raise
        _note_end(int(end.code), flags, end.__context__)


def _translate_exit(
    exit_at_once: Callable[[int], NoReturn], flags: Sequence[str]
) -> Callable[[int], NoReturn]:
    """`os._exit` with what KubeRay is told in place of a job's status."""

    def exit_translated(status: int) -> NoReturn:
        if status in FINAL:
            _note_end(status, flags, sys.exception())
            sys.stderr.flush()
        exit_at_once(0 if status in FINAL else status)

    return exit_translated


def _note_end(status: int, flags: Sequence[str], cause: BaseException | None) -> None:
    """Says, in the log and in run.json, what KubeRay is not told."""
    print(
        f"NOT DONE: the job ended with status {status}: {FINAL[status]}. KubeRay is told 0, so "
        "that it does not try this again",
        file=sys.stderr,
    )
    output = _find_output(flags)
    if output is None:
        return
    try:
        from c3l_ray.runs.folder import RunFolder
        from c3l_ray.runs.state import note_not_done

        reason = str(cause or "").strip().split("\n", 1)[0] or FINAL[status]
        note_not_done(RunFolder.open(output), status, reason)
    except Exception as error:  # the log has it
        print(f"run.json of {output} could not be written: {error}", file=sys.stderr)


def _find_output(flags: Sequence[str]) -> str | None:
    """What --output names, or None."""
    for flag, value in zip(flags, [*flags[1:], None], strict=True):
        if flag == "--output":
            return value
        if flag.startswith("--output="):
            return flag.partition("=")[2]
    return None


if __name__ == "__main__":
    main()
