"""Which settings of an earlier run another one takes: those of what is made, not of its machine.

run.json has every setting as it was used: typed, by default, or decided from models, inputs and
GPUs. Which were typed is known from the command that it notes.
"""

import logging
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from c3l_ray import storage
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

FLAG = "--config"
NOT_TAKEN = {
    "output": "its output",
    "pools": "its pools",
    "limit": "--limit",
    "retry_failed": "--retry-failed",
}
"""Settings of one command or one cluster, not of what is made, and how --help names them."""

OF_HARDWARE = ("model.gpu_memory", "workers.gpus")
"""Settings that a job decides from the GPUs that it finds: taken only where they were typed."""

OF_ONE_MODEL = {
    "model.name": ("model.revision", "model.trust_remote_code"),
    "scorer.name": ("scorer.revision", "scorer.trust_remote_code"),
}
"""What belongs to a name alone: not taken where another is named, even if it was typed."""

DECIDED_BY = {
    "model.name": ("model.dtype", "model.template_args", "reply_format"),
    "scorer.name": ("scorer.dtype", "scorer.template_args"),
    "input": ("max_pixels",),
}
"""What a job decides from a setting, unless it is typed: decided anew where that is replaced."""


log = logging.getLogger("c3l_ray.jobs")  # shown as what the library says


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


def take_settings(report: Mapping[str, Any], address: str) -> dict[str, Any]:
    """The settings of a run that another one can have too, on whatever machine.

    Args:
        report: its run.json.
        address: of that file.
    """
    settings = {
        name: value
        for name, value in report["config"].items()
        if name not in NOT_TAKEN and name != "job"  # which tells a training its own flags
    }
    if settings.get("wordings"):
        settings["instructions"] = None  # the file may be another one by now
    left_out: list[str] = []
    for name in OF_HARDWARE:
        value = find_setting(settings, name)
        if value is not None and not was_typed(name, report):
            log.info(
                "--%s %s of %s was decided from GPUs, and is not taken",
                *(name.replace("_", "-"), value, address),
            )
            left_out.append(name)
    name_of_model = find_setting(settings, "model.name")
    is_generator = name_of_model and name_of_model == find_setting(settings, "scorer.name")
    if is_generator and not was_typed("scorer.name", report):
        left_out += ("scorer.name", *OF_ONE_MODEL["scorer.name"])
    return leave_out(settings, left_out)


def list_outdated(
    earlier: Mapping[str, Any], now: Mapping[str, Any], report: Mapping[str, Any]
) -> list[str]:
    """The settings of an earlier run that are of what the new command has replaced.

    Args:
        earlier: settings that were taken.
        now: those of the new command.
        report: the earlier run.json.
    """
    replaced = [
        name for name in DECIDED_BY if find_setting(earlier, name) != find_setting(now, name)
    ]
    if "model.name" in replaced and find_setting(earlier, "scorer.name") is None:
        replaced.append("scorer.name")  # the generator itself
    return [
        *(name for setting in replaced for name in OF_ONE_MODEL.get(setting, ())),
        *(
            name
            for setting in replaced
            for name in DECIDED_BY[setting]
            if not was_typed(name, report)
        ),
    ]


def was_typed(setting: str, report: Mapping[str, Any]) -> bool:
    """Whether a user has set it: in the latest command of a run, or of one that it began from.

    Args:
        setting: such as "model.gpu_memory"; of a training, jobs.c3l has it as "training.".
        report: run.json.
    """
    flag = setting.replace("_", "-")
    seen: set[str | None] = set()
    earlier: Any = report
    while isinstance(earlier, dict):
        words = _read_latest_command(earlier)
        names = {word.partition("=")[0].replace("_", "-") for word in words}
        if names & {f"--{flag}", f"--training.{flag}"}:
            return True
        try:
            address, _ = split_off_address(words)
            earlier = None
            if address is not None and address not in seen:
                earlier = Location.parse(address, FLAG).read_json()
        except (PreflightError, *storage.ERRORS):
            return False
        seen.add(address)
    return False


def _read_latest_command(report: Mapping[str, Any]) -> list[str]:
    """The words of the command whose settings run.json has; none where it does not say."""
    commands = report.get("commands")
    latest = commands[-1] if isinstance(commands, list) and commands else None
    command = latest.get("command") if isinstance(latest, dict) else None
    try:
        return shlex.split(command) if isinstance(command, str) else []
    except ValueError:  # no shell would read it
        return []


def find_setting(settings: Mapping[str, Any], name: str) -> Any:
    """A setting by its name with dots; None where it is not there."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return value


def leave_out(settings: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """Settings without some, which then are as by default.

    Args:
        settings: by their names, those of a group in a dict of its own.
        names: with dots; those that are not there are passed over.
    """

    def kept(group: Mapping[str, Any], before: str) -> dict[str, Any]:
        return {
            name: kept(value, f"{before}{name}.") if isinstance(value, Mapping) else value
            for name, value in group.items()
            if f"{before}{name}" not in names
        }

    return kept(settings, "")


def list_unknown(
    given: Mapping[str, Any], read: Mapping[str, Any], before: str = ""
) -> Iterator[str]:
    """The names of settings that are given but were not read."""
    for name, value in given.items():
        if name not in read:
            yield before + name
        elif isinstance(value, Mapping) and isinstance(read[name], Mapping):
            yield from list_unknown(value, read[name], f"{before}{name}.")
