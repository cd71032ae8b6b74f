"""Runs a job so that KubeRay does not begin again what would end in the same way.

    python -m c3l_ray.kuberay_job jobs.generate --input s3://bucket/shards ...

A RayJob with a `backoffLimit` makes a new cluster for every command that fails, with whatever
status. A job that refuses its flags or input (2), or whose images fail (4), would be refused again.
One whose time is up (5) would go on for as long again, which is what the user did not want.
"""

import runpy
import sys

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
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code not in FINAL:
            raise
        print(
            f"NOT DONE: the job ended with status {end.code}: {FINAL[end.code]}. KubeRay is told "
            "0, so that it does not try this again",
            file=sys.stderr,
        )


if __name__ == "__main__":
    main()
