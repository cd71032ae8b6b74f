"""A job that begins from the settings of an earlier one: `--config RUN/run.json`."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any, TypeVar

import tyro

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

Config = TypeVar("Config")

FLAG = "--config"
OUTPUT_FLAG = "--output"
HELP = (
    f"{FLAG} RUN/run.json takes the settings of an earlier run of this job: all but\n"
    "its output, its pools, --limit and --retry-failed. Flags beside it change\n"
    "single settings, and --output names the new run.\n"
)
NOT_TAKEN = ("output", "pools", "limit", "retry_failed", "job")
"""Settings of one command or one cluster, not of what is made."""


def takes_earlier_settings(config: type[Any]) -> bool:
    """Whether jobs of this config write it into run.json."""
    if not dataclasses.is_dataclass(config):
        return False  # a choice of jobs, as that of jobs.evaluate
    names = {field.name for field in dataclasses.fields(config)}
    return {"model", "output"} <= names or {"scorer", "output"} <= names


def split_off_address(flags: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of --config, or None where it is not given, and the other flags.

    Raises:
        PreflightError: the flag has no value.
    """
    rest, address = [], None
    remaining = iter(flags)
    for flag in remaining:
        name, equals, value = flag.partition("=")
        if name != FLAG:
            rest.append(flag)
            continue
        address = value if equals else next(remaining, "")
        if not address:
            raise PreflightError(f"{FLAG}: name the run.json of an earlier run")
    return address, rest


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
    job = program.split()[-1].removeprefix("jobs.")
    earlier = read_earlier_settings(address, config, job)
    return tyro.cli(config, args=rest, prog=program, description="", default=earlier)


def read_earlier_settings(address: str, config: type[Config], job: str) -> Config:
    """The settings of an earlier run, with an output that is still to be named.

    Args:
        address: its run.json, local or on S3.
        config: class of the settings.
        job: by its name in run.json.

    Raises:
        PreflightError: the file is not there, or is not of this job and version.
    """
    from pydantic import TypeAdapter, ValidationError

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
            f"{FLAG} {address}: is of jobs.{report.get('job')}, and this is jobs.{job}"
        )
    earlier = report["config"]
    settings = {name: earlier[name] for name in earlier if name not in NOT_TAKEN}
    if settings.get("wordings"):
        settings["instructions"] = None  # the file may be another one by now
    try:
        taken: Config = TypeAdapter(config).validate_python({**settings, "output": ""})
    except ValidationError as error:
        first = error.errors()[0]
        name = ".".join(str(part) for part in first["loc"])
        raise PreflightError(f"{FLAG} {address}: {name}: {first['msg']}") from error
    read = dataclasses.asdict(taken)  # type: ignore[call-overload]
    if (unknown := next(_list_unknown(settings, read), None)) is not None:
        raise PreflightError(
            f"{FLAG} {address}: has the setting {unknown}, which version "
            f"{report.get('version')} knew and this one does not"
        )
    return taken


def _list_unknown(given: dict[str, Any], read: dict[str, Any], before: str = "") -> Iterator[str]:
    """The names of settings that are given but were not read."""
    for name, value in given.items():
        if name not in read:
            yield before + name
        elif isinstance(value, dict) and isinstance(read[name], dict):
            yield from _list_unknown(value, read[name], f"{before}{name}.")
