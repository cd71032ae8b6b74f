"""run.json of a training, and its lines of measurements in short."""

from dataclasses import dataclass, field
from typing import Any

from c3l_ray import __version__
from c3l_ray.runs.state import RunState


@dataclass(frozen=True, kw_only=True)
class TrainingReport(RunState):
    """What run.json says of a training, and where it stands.

    Attributes:
        job: "train".
        version: of c3l-ray.
        images: to learn from.
        held_out_images: to evaluate on.
        left_out_images: of the input, with nothing for the objective to learn.
        left_out_turns: usable turns that the objective answers does not learn, by reason.
        mixture: by set of turns, their number and the share of the draws; empty where records are
            learnt whole.
        steps: of the optimizer.
        objective: "c3l", "cgvlm", "vigc", "conversations" or "answers".
        tune: which weights learn: "lora", "full" or "adapter".
        model: identities of the weights: "initial" ones, and "tuned" ones once they are written.
        origin: digest of the identity.
        identity: what defines the tuned weights.
        config: of the latest command.
        seconds: "train", and "wall" with the check in vLLM.
        last_measurements: the latest value of every measurement.
        follow_ups: usable turns that follow others of their conversation, and are not learnt.
        skipped: images that were drawn and not learnt from, by reason, as often as they were drawn.
        notes: what to know of the training, a sentence each.
        verified_reply: what the tuned model replied in vLLM, where that was checked.
        finished: when, or None while steps are left to do.
    """

    job: str = "train"
    version: str = __version__
    images: int
    held_out_images: int
    left_out_images: int = 0
    left_out_turns: dict[str, int] = field(default_factory=dict)
    mixture: dict[str, dict[str, Any]]
    steps: int
    objective: str
    tune: str
    model: dict[str, str | None]
    origin: str
    identity: dict[str, Any]
    config: dict[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    last_measurements: dict[str, float | None] = field(default_factory=dict)
    follow_ups: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    verified_reply: str | None = None
    finished: str | None = None


def measure_progress(
    measurements: list[dict[str, float | None]], num_steps: int
) -> dict[str, float | None]:
    """How far a training is, as a line of `progress_log` has it; None is unknown."""
    latest = find_latest(measurements)
    step, seconds_per_step = int(latest.get("step") or 0), latest.get("seconds_per_step")
    minutes_left = None
    if seconds_per_step is not None:
        minutes_left = (num_steps - step) * seconds_per_step / 60
    return {
        "step": step,
        "steps": num_steps,
        "loss": latest.get("loss"),
        "tokens_per_s": latest.get("tokens_per_s"),
        "minutes_left": minutes_left,
    }


def format_progress(measurements: list[dict[str, float | None]], num_steps: int) -> str:
    """One greppable line: how far, how fast, how much longer."""
    measured = measure_progress(measurements, num_steps)
    formats = {"loss": ".4g", "tokens_per_s": ".0f", "minutes_left": ".1f"}
    return f"progress steps={measured['step']}/{num_steps} " + " ".join(
        f"{name}={'?' if (value := measured[name]) is None else format(value, spec)}"
        for name, spec in formats.items()
    )


def count_skipped(measurements: dict[str, float | None]) -> dict[str, int]:
    """The numbers of skipped images by reason, those above 0."""
    prefix = "skipped_"
    return {
        name.removeprefix(prefix): int(count)
        for name, count in measurements.items()
        if name.startswith(prefix) and count
    }


def find_latest(lines: list[dict[str, float | None]]) -> dict[str, float | None]:
    """The latest value of every measurement; some stand in some lines only."""
    latest: dict[str, float | None] = {}
    for line in lines:
        latest |= {name: value for name, value in line.items() if value is not None}
    return latest
