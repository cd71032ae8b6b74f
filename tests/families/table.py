"""The README's table of model families: one row each, from what the tests really did."""

from dataclasses import dataclass
from pathlib import Path

README = Path(__file__).parent.parent.parent / "README.md"
HEAD = ("family", "model class", "generates in vLLM", "plain scoring", "agree to", "packed scoring")


@dataclass(kw_only=True)
class Row:
    """What was shown of a family; None is not tried, False tried and not passed.

    Attributes:
        family: its name.
        model_class: of transformers.
        generates: greedy replies of the engine, on images of different sizes.
        scores: the plain scorer measured those replies.
        agreement: largest difference between two log-probabilities of a token, vLLM's and
            transformers'.
        note: a mark on the agreement, explained below the README's table.
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


def line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def render(rows: list[Row]) -> str:
    """The rows as the README holds them."""
    return "\n".join(
        [line(list(HEAD)), line(["---"] * len(HEAD)), *(line(r.cells()) for r in rows)]
    )


def written() -> dict[str, list[str]]:
    """The README's rows, by family."""
    lines = README.read_text().splitlines()
    start = lines.index(line(list(HEAD))) + 2
    rows = []
    for text in lines[start:]:
        if not text.startswith("|"):
            break
        rows.append([cell.strip() for cell in text.strip("|").split("|")])
    return {cells[0]: cells for cells in rows}
