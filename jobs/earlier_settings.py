"""A job that begins from the settings of an earlier one: `--config RUN/run.json`."""

import dataclasses
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import tyro

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location
from jobs.settings_taken import (
    FLAG,
    NOT_TAKEN,
    leave_out,
    list_outdated,
    list_unknown,
    split_off_address,
    take_settings,
)

Config = TypeVar("Config")

OUTPUT_FLAG = "--output"
PLANNED_JOB = "generate"  # of jobs.plan, which writes no run.json


def takes_earlier_settings(config: type[Any]) -> bool:
    """Whether jobs of this config write it into run.json."""
    if not dataclasses.is_dataclass(config):
        return False  # a choice of jobs, as that of jobs.evaluate
    names = {field.name for field in dataclasses.fields(config)}
    return {"model", "output"} <= names or {"scorer", "output"} <= names


def describe_flag(config: type[Any], program: str) -> str:
    """What --help says of --config.

    Args:
        config: class of the settings.
        program: as for `parse_flags`.
    """
    fields = {field.name for field in dataclasses.fields(config)}
    *others, last = [name for field, name in NOT_TAKEN.items() if field in fields]
    left_out = f"{', '.join(others)} and {last}" if others else last
    job = _job_of(program)
    of_job = "this job" if _job_of_settings(job) == job else f"jobs.{_job_of_settings(job)}"
    return textwrap.fill(
        f"{FLAG} RUN/run.json takes the settings of an earlier run of {of_job}: all but "
        f"{left_out}. What it decided from its GPUs is decided anew. Flags beside this one change "
        f"single settings, and {OUTPUT_FLAG} names the new run.",
        width=80,
        break_on_hyphens=False,
    )


def parse_flags(config: type[Config], flags: Sequence[str], program: str) -> Config:
    """The settings that flags say, beside those of an earlier run where they name one.

    Args:
        config: class of the settings.
        flags: of the command line.
        program: the command, as the user types it; its last word names the job.

    Raises:
        PreflightError: the earlier settings cannot be taken.
        SystemExit: the flags are wrong, or ask for help.
    """
    if not takes_earlier_settings(config):
        return tyro.cli(config, args=flags, prog=program, description="")
    address, rest = split_off_address(flags)
    if address is None or {"-h", "--help"} & set(rest):
        return tyro.cli(config, args=rest, prog=program, description="")
    if not any(flag.partition("=")[0] == OUTPUT_FLAG for flag in rest):
        raise PreflightError(f"{FLAG} {address}: name the new run too, with {OUTPUT_FLAG}")
    report = read_report(address, _job_of_settings(_job_of(program)))
    settings = take_settings(report, address)
    earlier = make_config(config, settings, report, address)
    parsed = tyro.cli(config, args=rest, prog=program, description="", default=earlier)
    outdated = list_outdated(dataclasses.asdict(earlier), dataclasses.asdict(parsed), report)  # type: ignore[call-overload]
    if not outdated:
        return parsed
    earlier = make_config(config, leave_out(settings, outdated), report, address)
    return tyro.cli(config, args=rest, prog=program, description="", default=earlier)


def read_report(address: str, job: str) -> dict[str, Any]:
    """run.json of an earlier run.

    Args:
        address: where it lies, local or on S3.
        job: that it must be of, by its name in run.json.

    Raises:
        PreflightError: the file is not there, or is not that of a run of this job.
    """
    try:
        report = Location.parse(address, FLAG).read_json()
    except storage.ERRORS as error:
        raise PreflightError(f"{FLAG} {address}: cannot be read as JSON: {error}") from error
    if report is None:
        raise PreflightError(f"{FLAG} {address}: no such file")
    if not isinstance(report, dict) or not isinstance(report.get("config"), dict):
        raise PreflightError(f"{FLAG} {address}: is no run.json with the settings of a run")
    if report.get("job") != job:
        raise PreflightError(
            f"{FLAG} {address}: is of jobs.{report.get('job')}, and this command takes the "
            f"settings of jobs.{job}"
        )
    return report


def make_config(
    config: type[Config], settings: Mapping[str, Any], report: Mapping[str, Any], address: str
) -> Config:
    """The settings of an earlier run as those of a job, with an output that is still to be named.

    Args:
        config: class of the settings.
        settings: that are taken.
        report: run.json that they are from.
        address: of that file.

    Raises:
        PreflightError: they are not settings of this version.
    """
    from pydantic import TypeAdapter, ValidationError

    try:
        taken: Config = TypeAdapter(config).validate_python({**settings, "output": ""})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise PreflightError(f"{FLAG} {address}: {name}: {first['msg']}") from error
    except PreflightError as error:
        raise PreflightError(f"{FLAG} {address}: {error}") from error
    read = dataclasses.asdict(taken)  # type: ignore[call-overload]
    if (unknown := next(list_unknown(settings, read), None)) is not None:
        raise PreflightError(
            f"{FLAG} {address}: has the setting {unknown}, which version "
            f"{report.get('version')} knew and this one does not"
        )
    return taken


def _job_of(program: str) -> str:
    return program.split()[-1].removeprefix("jobs.")


def _job_of_settings(job: str) -> str:
    """The job whose run.json holds the settings of a job."""
    return PLANNED_JOB if job == "plan" else job
