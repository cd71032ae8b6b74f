"""The families as fixtures, each with its checkpoint, and the table of what the tests showed."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from c3l_ray.inference.scorer_checks import find_logit_transform
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.model_config import ScorerModel
from tests.families.checkpoints import FAMILIES, Family, write_checkpoint
from tests.families.table import ROWS, Row, format_table, row_of

# These three differ most and run with every other test; the rest take the marker `families`.
ALWAYS = {"Qwen2.5-VL", "SmolVLM", "Gemma 3"}


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A family's checkpoint in a folder."""

    family: Family
    folder: Path

    @property
    def name(self) -> str:
        return self.family.name


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(
            family,
            marks=[] if family.name in ALWAYS else pytest.mark.families,
            id=family.slug,
        )
        for family in FAMILIES
    ],
)
def checkpoint(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Checkpoint:
    """Each family in turn, its checkpoint written; no engine is started for it."""
    family: Family = request.param
    folder = write_checkpoint(family, tmp_path_factory.mktemp(family.slug))
    return Checkpoint(family=family, folder=folder)


@pytest.fixture(scope="session")
def model(checkpoint: Checkpoint) -> ScoringModel:
    model = ScoringModel(ScorerModel(dtype="float32"), str(checkpoint.folder))
    model.logit_transform = find_logit_transform(model)
    return model


@pytest.fixture(scope="session")
def row(checkpoint: Checkpoint, model: ScoringModel, request: pytest.FixtureRequest) -> Row:
    """This family's row of the table; tests fill in what they have shown."""
    return row_of(checkpoint.family, type(model.vlm).__name__, request.config)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    if rows := config.stash.get(ROWS, {}):
        terminalreporter.section("model families, as jobs/README.md holds them")
        terminalreporter.write_line(format_table(list(rows.values())))
