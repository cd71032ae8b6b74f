"""The table of model families in jobs/README.md: a row for each, made from what the tests did."""

from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).parent.parent.parent / "jobs" / "README.md"
HEAD = ("family", "model class", "generates in vLLM", "plain scoring", "agree to", "packed scoring")


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
        note: a mark on the agreement, explained below the table.
        packs: the packed scorer equals the plain one.
    """

    family: str
    model_class: str
    generates: bool | None = None
    scores: bool | None = None
    agreement: float | None = None
    note: str = ""
    packs: bool | None = None

    def cells(self) -> list[str]:
        agreement = "" if self.agreement is None else f"{self.agreement:.0e}{self.note}"
        words = {None: "", False: "no", True: "yes"}
        return [
            self.family,
            f"`{self.model_class}`",
            words[self.generates],
            words[self.scores],
            agreement,
            words[self.packs],
        ]


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
