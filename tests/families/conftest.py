"""The families as fixtures, each with its checkpoint; and the table of what was shown of them."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from c3l_ray.config import Scorer
from c3l_ray.inference.scoring_model import Frozen
from tests.families.checkpoints import FAMILIES, Family, write
from tests.families.table import Row, render

# These three differ most and run with every other test; the rest take the marker `families`.
ALWAYS = {"Qwen2.5-VL", "SmolVLM", "Gemma 3"}
ROWS = pytest.StashKey[dict[str, Row]]()


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A family's checkpoint in a folder."""

    family: Family
    folder: Path

    @property
    def name(self) -> str:
        return self.family.name


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = {}


@pytest.fixture(
    scope="session",
    params=[
        pytest.param(one, marks=[] if one.name in ALWAYS else pytest.mark.families, id=one.slug)
        for one in FAMILIES
    ],
)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    """Each family in turn, its checkpoint written; no engine is started for it."""
    family: Family = request.param
    return Checkpoint(family=family, folder=write(family, tmp_path_factory.mktemp(family.slug)))


@pytest.fixture(scope="session")
def frozen(family: Checkpoint) -> Frozen:
    return Frozen(Scorer(dtype="float32"), str(family.folder))


@pytest.fixture(scope="session")
def row(family: Checkpoint, frozen: Frozen, request: pytest.FixtureRequest) -> Row:
    """This family's row of the table; tests fill in what they have shown."""
    made = Row(family=family.name, model_class=type(frozen.model).__name__)
    rows: dict[str, Row] = request.config.stash[ROWS]
    return rows.setdefault(family.name, made)


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash[ROWS]
    if rows:
        terminalreporter.section("model families, as the README holds them")
        terminalreporter.write_line(render(list(rows.values())))
