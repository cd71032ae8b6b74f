"""The table of model families in jobs/README.md: a row for each, made from what the tests did."""

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.families.checkpoints import FAMILIES, Family

PAGE = Path(__file__).parent.parent.parent / "jobs" / "README.md"
HEAD = (
    "family",
    "model class",
    "generates in vLLM",
    "plain scoring",
    "agree to",
    "packed scoring",
    "tunes",
    "comes back",
)
AGREEMENT = HEAD.index("agree to")
ROWS = pytest.StashKey[dict[str, "Row"]]()


@dataclass(kw_only=True)
class Row:
    """What the tests showed of a family: None is not tried, False tried and not passed.

    Attributes:
        family: its name.
        model_class: of transformers.
        generates: greedy replies of the engine, on images of different sizes.
        scores: the plain scorer measured those replies.
        agreement: largest difference between two log-probabilities of a token, vLLM's and
            transformers'.
        packs: the packed scorer equals the plain one.
        tunes: by every objective, and transformers loads what was trained.
        returns: vLLM computes what was trained.
        marks: of a column, a mark on its cell, explained below the table.
    """

    family: str
    model_class: str
    generates: bool | None = None
    scores: bool | None = None
    agreement: float | None = None
    packs: bool | None = None
    tunes: bool | None = None
    returns: bool | None = None
    marks: dict[str, str] = field(default_factory=dict)

    def cells(self) -> list[str]:
        """As the page has them; empty for what was not tried."""
        words = {None: "", False: "no", True: "yes"}
        cells = [
            self.family,
            f"`{self.model_class}`",
            words[self.generates],
            words[self.scores],
            "" if self.agreement is None else f"{self.agreement:.0e}",
            words[self.packs],
            words[self.tunes],
            words[self.returns],
        ]
        marks = [self.marks.get(column, "") for column in HEAD]
        return [cell and f"{cell}{mark}" for cell, mark in zip(cells, marks, strict=True)]


def format_line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def format_table(rows: list[Row]) -> str:
    """The rows as the page holds them."""
    return "\n".join(
        [
            format_line(list(HEAD)),
            format_line(["---"] * len(HEAD)),
            *(format_line(row.cells()) for row in rows),
        ]
    )


def read_published_rows() -> dict[str, list[str]]:
    """The page's rows, by family."""
    lines = PAGE.read_text().splitlines()
    start = lines.index(format_line(list(HEAD))) + 2
    rows = []
    for text in lines[start:]:
        if not text.startswith("|"):
            break
        rows.append([cell.strip() for cell in text.strip("|").split("|")])
    return {cells[0]: cells for cells in rows}


def row_of(family: Family, model_class: str, config: pytest.Config) -> Row:
    """A family's row among those of this test run; tests fill in what they have shown."""
    new_row = Row(family=family.name, model_class=model_class, marks=family.marks)
    return config.stash.setdefault(ROWS, {}).setdefault(family.name, new_row)


def check_page(row: Row) -> None:
    """Compares a row with the page's, apart from what was not tried now."""
    published = read_published_rows()
    assert list(published) == [family.name for family in FAMILIES]
    # How far the two agree differs by machine.
    differences = [
        f"{cell} is {published_cell} on the page"
        for place, (cell, published_cell) in enumerate(
            zip(row.cells(), published[row.family], strict=True)
        )
        if place != AGREEMENT and cell and cell != published_cell
    ]
    assert not differences, "run `make test-families` and copy its table into jobs/README.md"
