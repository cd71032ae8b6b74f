"""What was under way when a process died: notes in Ray's own store, which its successor reads.

A process notes a unit before it works on it, and strikes the note out afterwards. A note that is
there at the begin is therefore of a process that died. The unit is then done alone; where that
kills its process too, its rows are tried in pieces and then one by one. A row that kills a process
alone is *fatal*: the unit is done without it.
"""

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from ray.experimental import internal_kv

PIECE_ROWS = 16
"""Rows that are tried together: with fewer, an engine idles; with more, more are tried again."""
MAX_UNIT_DEATHS = 24
"""Deaths after which the rows of a unit that are still suspected are given up: a fatal row takes
one to four."""
MAX_DEATHS_IN_A_ROW = 8
"""Deaths of a process and its successors, none of which has finished anything, after which the
model is taken to be at fault, and not the rows. A fatal row takes up to four."""


@dataclass
class Note:
    """What is noted of a unit.

    Attributes:
        deaths: of processes while they worked on it.
        running: its rows that a process works on, or worked on when it died.
        trials: pieces of its rows that are still to be tried alone.
        fatal: rows that killed their process, each with how that is known.
        process: that works on it, or died.
    """

    deaths: int = 0
    running: list[int] = field(default_factory=list)
    trials: list[list[int]] = field(default_factory=list)
    fatal: dict[int, str] = field(default_factory=dict)
    process: str = ""

    def learn_from_death(self) -> None:
        """Narrows down what killed the process that was at work."""
        self.deaths += 1
        suspects = [row for row in self.running if row not in self.fatal]
        if self.deaths > MAX_UNIT_DEATHS:
            why = f"{self.deaths} processes died on its unit, the last one {self.process}"
            self.fatal |= dict.fromkeys(suspects, why)
            self.trials = []
        elif self.deaths == 1:
            return  # other units were under way beside this one: it is done again, alone
        elif len(suspects) == 1:
            self.fatal[suspects[0]] = f"it killed the {self.process}, which did nothing else"
        elif len(suspects) > PIECE_ROWS:
            self.trials = [
                suspects[start : start + PIECE_ROWS]
                for start in range(0, len(suspects), PIECE_ROWS)
            ]
        else:
            # The rest of the pieces comes after the rows of the one that killed.
            rest = [piece for piece in self.trials if not set(piece) & set(suspects)]
            self.trials = [[row] for row in suspects] + rest
        self.trials = [piece for piece in self.trials if not set(piece) & self.fatal.keys()]


@dataclass(frozen=True)
class Ledger:
    """The notes of one stage of a job.

    Args:
        key: of the job and the stage.
        process: that writes, as a user finds it: its number and node.
    """

    key: str
    process: str

    def knows(self, unit: str) -> bool:
        """Whether a process works on a unit, or died while it did."""
        return bool(internal_kv._internal_kv_exists(self._key_of(unit)))

    def begin(self, unit: str, num_rows: int) -> Note:
        """Notes that a unit is under way, and returns what there is to know of it."""
        text = internal_kv._internal_kv_get(self._key_of(unit))
        note = Note()
        if text is not None:
            content = json.loads(text)
            note = Note(**{**content, "fatal": {int(k): v for k, v in content["fatal"].items()}})
            note.learn_from_death()
        self.note_running(unit, note, range(num_rows))
        return note

    def note_running(self, unit: str, note: Note, rows: Sequence[int]) -> None:
        """Notes which rows of a unit are worked on from now on."""
        note.running = [row for row in rows if row not in note.fatal]
        note.process = self.process
        internal_kv._internal_kv_put(self._key_of(unit), json.dumps(dataclasses.asdict(note)))

    def end(self, unit: str) -> None:
        """Strikes out the note of a unit that is done."""
        internal_kv._internal_kv_del(self._key_of(unit))

    def count_death(self, lineage: str) -> int:
        """Deaths of a process and its successors since one of them finished something, and now."""
        key = self._key_of(f"deaths/{lineage}")
        deaths = int(internal_kv._internal_kv_get(key) or 0) + 1
        internal_kv._internal_kv_put(key, str(deaths))
        return deaths

    def forget_deaths(self, lineage: str) -> None:
        """Notes that a process has finished something."""
        internal_kv._internal_kv_del(self._key_of(f"deaths/{lineage}"))

    def note_hung_boot(self) -> None:
        """Notes that a process of the stage has not loaded its model in time."""
        internal_kv._internal_kv_put(self._key_of("boots"), str(self.count_hung_boots() + 1))

    def count_hung_boots(self) -> int:
        """Processes of the stage that did not, since one of them did."""
        return int(internal_kv._internal_kv_get(self._key_of("boots")) or 0)

    def forget_hung_boots(self) -> None:
        """Notes that a process of the stage has loaded its model."""
        internal_kv._internal_kv_del(self._key_of("boots"))

    def _key_of(self, name: str) -> str:
        return f"{self.key}/{name}"
