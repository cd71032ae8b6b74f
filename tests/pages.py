"""The project's pages as tests read them: tables, links, headings, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FOLDERS = ("c3l_ray", "cluster", "jobs", "tests")
_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<content>.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"(?<!!)\[[^\]]+\]\((?P<target>[^)]+)\)")
_CELL_BORDER = re.compile(r"(?<!\\)\|")
_JOB = re.compile(r"(?:python -m jobs\.|(?<!\S)jobs\.|c3l-ray )(?P<job>[a-z0-9]+)(?!\S)")
_MODULE = re.compile(r"python -m (?P<module>(?:jobs|c3l_ray|tests)[a-z0-9_.]+)(?!\S)")


@dataclass(frozen=True)
class Command:
    """A command that a page shows, in words."""

    page: "Page"
    words: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.page.name}: {shlex.join(self.words)}"

    @property
    def job(self) -> str | None:
        """The job that it starts, perhaps through another program; None where it starts none."""
        found = _JOB.search(" ".join(self.words))
        return found["job"] if found else None

    @property
    def module(self) -> str | None:
        """The module of ours that it starts, or None."""
        found = _MODULE.search(" ".join(self.words))
        return found["module"] if found else None

    @property
    def arguments(self) -> list[str]:
        """What follows the job or the module."""
        starts = [place for place, word in enumerate(self.words) if word == "-m"]
        return list(self.words[starts[0] + 2 if starts else 2 :])

    @property
    def is_whole(self) -> bool:
        """Whether it can be pasted: nothing of it is left out."""
        return "..." not in self.words


@dataclass(frozen=True)
class Page:
    """A page in Markdown."""

    path: Path
    text: str

    def __str__(self) -> str:
        return self.name

    @property
    def name(self) -> str:
        return str(self.path.relative_to(ROOT))

    def blocks(self, language: str = "") -> list[str]:
        """The fenced blocks of a language; without one, commands and what they print."""
        return [
            block["content"]
            for block in _BLOCK.finditer(self.text)
            if block["language"] == language
        ]

    def commands(self) -> Iterator[Command]:
        """The commands in its blocks: lines that begin with the name of a program."""
        for block in self.blocks():
            for line in block.replace("\\\n", " ").splitlines():
                if re.match(r"(?:python|make|c3l-ray|ray|kubectl|docker) ", line):
                    yield Command(self, tuple(shlex.split(line, comments=True)))

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return _BLOCK.sub("", self.text)

    def prose_without_column(self, title: str) -> str:
        """The text without its blocks, and without a column of its tables."""
        lines: list[str] = []
        column: int | None = None
        for line in self.prose.splitlines():
            cells = split_row(line) if line.startswith("|") else []
            if not cells:
                column = None
            elif title in cells:
                column = cells.index(title)
            if column is not None:
                line = " | ".join(cell for place, cell in enumerate(cells) if place != column)
            lines.append(line)
        return "\n".join(lines)

    def table(self, heading: str, number: int = 0) -> list[list[str]]:
        """The rows of a table under a heading, without its head.

        Args:
            heading: the text of the heading, whatever its level.
            number: of the table among those before the next heading.
        """
        section = re.split(rf"^#+ {re.escape(heading)}$", self.prose, flags=re.MULTILINE)[1]
        section = re.split(r"^#+ ", section, flags=re.MULTILINE)[0]
        tables = re.findall(r"(?:^\|.*\n)+", section, flags=re.MULTILINE)
        return [split_row(line) for line in tables[number].splitlines()[2:]]

    def links(self) -> list[str]:
        """What it links to inside the project."""
        targets = [link["target"] for link in _LINK.finditer(self.prose)]
        return [target for target in targets if "://" not in target]

    def anchors(self) -> set[str]:
        """The names by which links reach its headings."""
        headings = re.findall(r"^#+ (.+)$", self.prose, flags=re.MULTILINE)
        return {
            re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")
            for heading in headings
        }


def split_row(line: str) -> list[str]:
    """The cells of a line of a table."""
    cells = _CELL_BORDER.split(line.strip())[1:-1]
    return [cell.strip().replace("\\|", "|") for cell in cells]


def read_pages() -> dict[str, Page]:
    """All pages, by their path in the project."""
    paths = [
        *ROOT.glob("*.md"),
        *(path for name in FOLDERS for path in (ROOT / name).rglob("*.md")),
    ]
    pages = [Page(path, path.read_text()) for path in sorted(paths)]
    return {page.name: page for page in pages}
