"""run.json at the top of the output of jobs.c3l."""

from dataclasses import dataclass, field
from typing import Any

from c3l_ray import __version__
from c3l_ray.runs.state import RunState


@dataclass(frozen=True, kw_only=True)
class C3LReport(RunState):
    """What run.json at the top of the output says, and where the run stands.

    Attributes:
        job: "c3l".
        version: of c3l-ray.
        origin: digest of the identity.
        identity: what defines the first round; each stage's own is in its run.json.
        config: of the latest command.
        stages: by folder: each one's origin, the time it finished and its seconds; of a round what
            its turns are like; of the dataset its selection.json.
        finished: when, or None while stages are left to do.
    """

    job: str = "c3l"
    version: str = __version__
    origin: str
    identity: dict[str, Any]
    config: dict[str, Any]
    stages: dict[str, dict[str, Any]] = field(default_factory=dict)
    finished: str | None = None
