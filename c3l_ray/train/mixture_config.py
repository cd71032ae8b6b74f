"""What a user can set of a mixture: how turns are put into sets, and how often each set is drawn.

Sources in brackets: [V-cfg] the configs of VIGC's authors. The draws themselves are in
`reading.mixture`.
"""

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Literal

from c3l_ray.errors import PreflightError
from c3l_ray.methods import vigc
from c3l_ray.ranges import Conflicts, Range
from c3l_ray.schema import GIVEN

Weighting = Literal["sqrt", "size", "even"]

MAX_SETS = 64  # every window reads files of every set
DEFAULT_KIND = "dialogue"  # of turns made elsewhere that no SOURCE=KIND fits
_NUM_LISTED_SOURCES = 5


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """The objective vigc: which turns are drawn, and what is learnt of each.

    A set holds the turns of one kind; of turns made elsewhere it holds those of one source file.
    """

    weighting: Weighting = "sqrt"
    """Draw a set's turns by the square root of its size [V-cfg], by its size, or all sets alike."""
    # Even is our reading: the paper names no weight. The other draws learn to write the question
    # with its answer (VIG).
    correction_share: Annotated[float, Range(min=0, max=1)] = 0.5
    """Share of the draws that learn to answer a question (VIC) in place of a whole turn (VIG)."""
    # The kind says under which instructions turns are learnt, as in detail_23k.json=detail. A
    # pattern (part-*=short) makes one set of all sources that it fits.
    kinds: tuple[str, ...] = ()
    """SOURCE=KIND: kind of the turns from a source file or pattern (default kind: dialogue)."""

    def conflicts(self) -> Conflicts:
        for rule in self.kinds:
            source, _, kind = rule.rpartition("=")
            if not source or kind not in vigc.TAUGHT_INSTRUCTIONS:
                known = ", ".join(vigc.TAUGHT_INSTRUCTIONS)
                yield "kinds", f"must be SOURCE=KIND with a kind of {known}; {rule} is not"

    def find_set(self, kind: str, source: str) -> str | None:
        """The name of the set that a turn belongs to, or None for one that is not learnt.

        A follow-up is not learnt: without the turns before it, it is no question on an image.

        Args:
            kind: of the turn.
            source: of its record.
        """
        if kind in vigc.TAUGHT_INSTRUCTIONS:
            return kind
        return self._match_source(source)[0] if kind == GIVEN else None

    def find_kind(self, kind: str, source: str) -> str:
        """The kind whose instructions ask for a turn of this kind and source."""
        return kind if kind in vigc.TAUGHT_INSTRUCTIONS else self._match_source(source)[1]

    def check_sets(self, names: Collection[str], sources: Collection[str]) -> None:
        """Refuses sets that cannot be mixed.

        Args:
            names: of the sets.
            sources: of the turns made elsewhere.

        Raises:
            PreflightError: a source of --mixture.kinds is not there, or there are too many sets.
        """
        patterns = {self._match_source(source)[0] for source in sources}
        for rule in self.kinds:
            if rule.rpartition("=")[0] not in patterns:
                listed = ", ".join(sorted(sources)[:_NUM_LISTED_SOURCES]) or "none with turns"
                more = " and so on" if len(sources) > _NUM_LISTED_SOURCES else ""
                raise PreflightError(
                    f"--mixture.kinds {rule}: matches no input file; inputs are {listed}{more}"
                )
        if len(names) > MAX_SETS:
            raise PreflightError(
                f"{len(names)} sets to draw turns from, and at most {MAX_SETS} can be mixed: join "
                "sources by a pattern, such as --mixture.kinds '*=dialogue'"
            )

    def _match_source(self, source: str) -> tuple[str, str]:
        """The set of the turns from a source, and their kind: by the first rule that fits it.

        A source is known by its whole name and by the last part of it.
        """
        for rule in self.kinds:
            pattern, _, kind = rule.rpartition("=")
            if any(fnmatchcase(name, pattern) for name in (source, source.rpartition("/")[2])):
                return pattern, kind
        return source, DEFAULT_KIND
