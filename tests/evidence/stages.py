"""Stages: what is run once for each question, arm and seed, and leaves a JSON file behind."""

import hashlib
import json
import logging
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from c3l_ray import schema
from c3l_ray.errors import C3LError

RESULTS_SINCE = "0.4.0"
"""The first version that generates, scores, selects and trains as this one does. Whoever changes
one of these raises it, and every stage is run anew."""

log = logging.getLogger("c3l_ray.evidence")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One arm of one question, in one repetition.

    Attributes:
        question: that it helps to answer.
        arm: what is done.
        seed: of the repetition.
        settings: what defines the result, beside the code; as JSON.
        run: makes the result in a folder of its own; None where it cannot be run.
        needs: stages whose results it reads.
        budget_s: seconds that it may take on two free cores, at full scale.
    """

    question: str
    arm: str
    seed: int
    settings: Mapping[str, Any]
    run: Callable[[Path], dict[str, Any]] | None
    needs: tuple["Stage", ...] = ()
    budget_s: float = 0.0

    @property
    def name(self) -> str:
        return f"{self.question}-{self.arm}-{self.seed}"

    @property
    def digest(self) -> str:
        """Of the settings, of those of the stages that it needs, and of the versions."""
        content = {
            "settings": self.settings,
            "needs": [stage.digest for stage in self.needs],
            "versions": [RESULTS_SINCE, schema.VERSION],
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


@dataclass(frozen=True, kw_only=True)
class StageResult:
    """What a finished stage left behind.

    Attributes:
        stage: that made it.
        seconds: that it took, of the command that finished it.
        commit: of the code, where it is known.
        content: what it measured.
    """

    stage: Stage
    seconds: float
    commit: str
    content: dict[str, Any] = field(repr=False)


class Workplace:
    """The output folder: results in `stages/`, and what stages make on the way in `work/`."""

    def __init__(self, output: Path) -> None:
        self.output = output

    def folder_of(self, stage: Stage) -> Path:
        """Where a stage works; other settings have another folder."""
        return self.output / "work" / f"{stage.name}-{stage.digest}"

    def load(self, stage: Stage) -> StageResult | None:
        """The result of a stage, or None where it is not there, or is of other settings.

        Raises:
            C3LError: the file is no result.
        """
        path = self._path_of(stage)
        if not path.exists():
            return None
        try:
            saved = json.loads(path.read_text())
            if saved["digest"] != stage.digest:
                return None
            return StageResult(
                stage=stage,
                seconds=saved["seconds"],
                commit=saved["commit"],
                content=saved["content"],
            )
        except (ValueError, KeyError, TypeError) as error:
            raise C3LError(
                f"{path} is no result of a stage: {error!r}; delete it, and it is made again"
            ) from error

    def run(self, stage: Stage) -> StageResult:
        """Runs a stage and saves its result.

        Raises:
            C3LError: it cannot go on; a later run resumes it.
        """
        assert stage.run is not None
        for needed in stage.needs:
            if self.load(needed) is None:
                raise C3LError(f"it needs the stage {needed.name}, which is not finished")
        folder = self.folder_of(stage)
        folder.mkdir(parents=True, exist_ok=True)
        started = time.monotonic()
        content = stage.run(folder)
        result = StageResult(
            stage=stage,
            seconds=round(time.monotonic() - started, 1),
            commit=read_commit(),
            content=content,
        )
        saved = {
            "digest": stage.digest,
            "settings": stage.settings,
            "seconds": result.seconds,
            "commit": result.commit,
            "content": content,
        }
        path = self._path_of(stage)
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_suffix(".part")
        unfinished.write_text(json.dumps(saved))
        unfinished.replace(path)  # an interrupted command leaves no half of a result
        return result

    def _path_of(self, stage: Stage) -> Path:
        return self.output / "stages" / f"{stage.name}.json"


def run_stages(
    workplace: Workplace, stages: Sequence[Stage], asked: Iterable[Stage]
) -> dict[str, str]:
    """Runs the stages that were asked for and are not done, in the order of the plan.

    Args:
        workplace: of the results.
        stages: the whole plan, each after those that it needs.
        asked: those to run; what they need is run too.

    Returns:
        By the name of a stage that failed, why.
    """
    wanted = {stage.name for chosen in asked for stage in _with_needs(chosen)}
    failures: dict[str, str] = {}
    for stage in stages:
        if stage.name not in wanted or stage.run is None:
            continue
        if workplace.load(stage) is not None:
            continue
        log.info("\n%s begins", stage.name)
        try:
            log.info("%s took %.0f s", stage.name, workplace.run(stage).seconds)
        except C3LError as error:
            failures[stage.name] = str(error)
            log.error("%s failed: %s", stage.name, error)
    return failures


def _with_needs(stage: Stage) -> Iterable[Stage]:
    for needed in stage.needs:
        yield from _with_needs(needed)
    yield stage


def read_commit() -> str:
    """The commit of the code, with a plus where modules differ from it; "unknown" without git.

    The page and its charts are no code, and each command writes them.
    """

    def ask_git(*words: str) -> str:
        asked = subprocess.run(
            ["git", *words],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        return asked.stdout.strip()

    try:
        commit = ask_git("rev-parse", "--short=9", "HEAD")
        changed = ask_git("status", "--porcelain", "--", "*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{commit}+" if changed else commit
