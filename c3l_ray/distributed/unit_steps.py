"""How a process computes its units, so that faults stay small.

An exception that leaves an actor ends the job. One that is no error of ours therefore becomes
failed rows: the rows are tried by halves, and the unit is done without those that raise. A process
that dies is started again by Ray and given its units again; the ledger says what killed it. What
failed so is written to `errors/`.
"""

import logging
import os
import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import ray

from c3l_ray.distributed.cluster import find_log_files
from c3l_ray.distributed.ledger import MAX_DEATHS_IN_A_ROW, Ledger, Note
from c3l_ray.distributed.stop_flag import StopFlag
from c3l_ray.errors import C3LError
from c3l_ray.inputs.read import describe_exception
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import FATAL, replace_columns

GENERATING, SCORING = "generating", "scoring"

log = logging.getLogger(__name__)

Steps = Generator[pa.Table, pa.Table, pa.Table]
"""Tables to compute; each result is sent in, or its exception thrown in. Returns the unit."""


@dataclass(frozen=True)
class Surroundings:
    """What a process knows of its job.

    Attributes:
        folder: of the run.
        flag: that stops the job.
    """

    folder: RunFolder
    flag: StopFlag


class UnitSteps:
    """The steps in which a process computes its units, whether it awaits them or not.

    Args:
        stage: by its name, such as "generating".
        surroundings: of the process.
        starts: whether units begin here, and none does where the job is to stop.
        restarted: note of a process that was started in place of one that died.

    Raises:
        C3LError: too many processes in a row died before they finished anything.
    """

    def __init__(
        self, stage: str, surroundings: Surroundings, *, starts: bool, restarted: str
    ) -> None:
        context = ray.get_runtime_context()
        self.folder, self.flag = surroundings.folder, surroundings.flag
        self.stage, self.starts = stage, starts
        self.lineage = context.get_actor_id() or "none"
        node = ray.util.get_node_ip_address()
        process = f"{stage} process {os.getpid()} on node {node}"
        self.ledger = Ledger(f"{self.flag.key}/{stage}", process)
        self.is_unproven = context.was_current_actor_reconstructed
        self.unsaid_notes = [restarted] if self.is_unproven else []
        if self.is_unproven:
            deaths = self.ledger.count_death(self.lineage)
            if deaths >= MAX_DEATHS_IN_A_ROW:
                raise C3LError(
                    f"{deaths} {stage} processes died in a row, and none of them finished "
                    f"anything; {find_log_files()} on node {node} say why"
                )

    def is_suspect(self, table: pa.Table) -> bool:
        """Whether a process died while it worked on this unit, which is to be done alone now."""
        return self.ledger.knows(_unit_of(table))

    def of_unit(self, table: pa.Table) -> Steps:
        """Computes a unit; its rows that cannot be computed get an error.

        Returns:
            The unit with what the stage fills in, or no rows where the job is to stop.
        """
        if self.starts and self.flag.is_up():
            return table.slice(0, 0)
        unit = _unit_of(table)
        note = self.ledger.begin(unit, table.num_rows)
        while note.trials:
            rows = note.trials.pop(0)
            self.ledger.note_running(unit, note, rows)
            try:
                yield table.take(rows)
            except C3LError:
                raise
            except Exception:  # its rows are found below
                log.warning("rows that are tried alone fail", exc_info=True)
            self._prove()
        self.ledger.note_running(unit, note, range(table.num_rows))
        result = yield from self._without_failing_rows(self._mark_fatal(table, note), note)
        self.ledger.end(unit)
        notes, self.unsaid_notes = self.unsaid_notes, []
        return add_notes(result, notes)

    def _without_failing_rows(self, table: pa.Table, note: Note) -> Steps:
        if len(note.fatal) == table.num_rows:
            return table
        try:
            result = yield table
        except C3LError:
            raise
        except Exception as error:
            unit_error = error
        else:
            self._prove()
            return result
        good = [row for row in range(table.num_rows) if row not in note.fatal]
        errors: dict[int, Exception] = {}
        yield from _find_failing_rows(table, good, unit_error, errors)
        table = self._mark(table, errors or dict.fromkeys(good, unit_error))
        try:
            result = yield table
        except C3LError:
            raise
        except Exception as error:  # as where only a unit as a whole fails
            return self._mark(table, {row: error for row in good if row not in errors})
        self._prove()
        return result

    def _mark_fatal(self, table: pa.Table, note: Note) -> pa.Table:
        """The unit whose fatal rows have an error."""
        if not note.fatal:
            return table
        texts = {row: f"{FATAL}: {how}" for row, how in note.fatal.items()}
        logs = f"The log files of its processes are {find_log_files()}"
        self._write_errors(table, {row: f"{text}\n{logs}" for row, text in texts.items()})
        return self._set_errors(table, texts)

    def _mark(self, table: pa.Table, errors: dict[int, Exception]) -> pa.Table:
        """The unit whose failing rows have an error."""
        traces = {row: "".join(traceback.format_exception(e)) for row, e in errors.items()}
        self._write_errors(table, traces)
        return self._set_errors(table, {row: describe_exception(e) for row, e in errors.items()})

    def _set_errors(self, table: pa.Table, errors: dict[int, str]) -> pa.Table:
        """The rows with these errors; their turns that were to be scored are unscored."""
        of_rows, turns = table["error"].to_pylist(), table["turns"].to_pylist()
        for row, error in errors.items():
            of_rows[row] = error
            for turn in turns[row] or [] if self.stage == SCORING else []:
                turn["status"] = "unscored" if turn["status"] == "ok" else turn["status"]
        return replace_columns(table, error=of_rows, turns=turns)

    def _write_errors(self, table: pa.Table, texts: dict[int, str]) -> None:
        names = table.select(["source", "key"]).take(list(texts)).to_pylist()
        entries = [
            f"{name['source']} {name['key']}, in the {self.ledger.process}\n{text}\n"
            for name, text in zip(names, texts.values(), strict=True)
        ]
        write_errors(self.folder, _unit_of(table), self.stage, entries)

    def _prove(self) -> None:
        """Notes that this process has finished something."""
        if self.is_unproven:
            self.is_unproven = False
            self.ledger.forget_deaths(self.lineage)


def _find_failing_rows(
    table: pa.Table, rows: Sequence[int], error: Exception, errors: dict[int, Exception]
) -> Generator[pa.Table, pa.Table, None]:
    """Halves rows that raise together until each that raises alone is in `errors`."""
    if len(rows) == 1:
        errors[rows[0]] = error
        return
    middle = len(rows) // 2
    for half in (rows[:middle], rows[middle:]):
        try:
            yield table.take(half)
        except C3LError:
            raise
        except Exception as error_of_half:
            error = error_of_half
        else:
            continue
        yield from _find_failing_rows(table, half, error, errors)


def write_errors(folder: RunFolder, unit: str, stage: str, entries: Sequence[str]) -> None:
    """Writes what failed rows of a unit failed with, for whoever mends it."""
    folder.write(f"errors/{unit}-{stage}.txt", "\n".join(entries).encode())


def add_notes(table: pa.Table, notes: list[str]) -> pa.Table:
    """The rows with these notes after those that they have."""
    if not notes:
        return table
    noted = [[*(earlier or []), *notes] for earlier in table["notes"].to_pylist()]
    return replace_columns(table, notes=noted)


def _unit_of(table: pa.Table) -> Any:
    return table["unit"][0].as_py()
