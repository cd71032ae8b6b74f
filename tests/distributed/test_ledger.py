"""What is learnt from processes that die, without any that does."""

from collections.abc import Callable

import pytest

from c3l_ray.distributed import ledger
from c3l_ray.distributed.ledger import Ledger, Note
from tests.distributed.kv_store import replace_store

Kills = Callable[[list[int]], bool]


class Dies(Exception):
    """In place of a process that does."""


def attempt(book: Ledger, num_rows: int, kills: Kills) -> Note:
    """What a process does with a unit, as far as the ledger is concerned."""

    def work(rows: list[int]) -> None:
        if kills(rows):
            raise Dies

    note = book.begin("unit", num_rows)
    while note.trials:
        rows = note.trials.pop(0)
        book.note_running("unit", note, rows)
        work(rows)
    book.note_running("unit", note, range(num_rows))
    work(note.running)
    book.end("unit")
    return note


def count_deaths(num_rows: int, kills: Kills) -> tuple[int, dict[int, str]]:
    """The deaths until a unit is done, and its fatal rows."""
    book = Ledger("key", "process")
    for deaths in range(100):
        try:
            note = attempt(book, num_rows, kills)
        except Dies:
            continue
        assert not book.knows("unit")
        return deaths, note.fatal
    raise AssertionError("the unit is never done")


@pytest.fixture(autouse=True)
def store(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A dictionary in place of Ray's store."""
    return replace_store(monkeypatch)


@pytest.mark.parametrize(
    ("num_rows", "poison", "deaths"),
    [
        (256, {100}, 4),  # beside others, alone, in a piece, as a row
        (256, {0, 1, 255}, 7),
        (10, {3}, 3),
        (1, {0}, 2),
        (2, {0, 1}, 4),
    ],
)
def test_each_row_that_kills_is_found_within_few_deaths(
    num_rows: int, poison: set[int], deaths: int
) -> None:
    found = count_deaths(num_rows, lambda rows: bool(poison & {*rows}))
    assert (found[0], {*found[1]}) == (deaths, poison)


def test_a_process_that_dies_once_costs_nothing_but_the_time() -> None:
    calls: list[list[int]] = []

    def kill_once(rows: list[int]) -> bool:
        calls.append(rows)
        return len(calls) == 1

    assert count_deaths(100, kill_once) == (1, {})
    assert calls == [[*range(100)]] * 2


def test_a_unit_that_kills_though_no_row_of_it_does_is_given_up() -> None:
    deaths, fatal = count_deaths(40, lambda rows: len(rows) == 40)
    assert deaths == ledger.MAX_UNIT_DEATHS + 1
    assert fatal.keys() == {*range(40)}


def test_deaths_in_a_row_are_counted_until_something_is_finished() -> None:
    book = Ledger("key", "process")
    assert [book.count_death("a") for _ in range(3)] == [1, 2, 3]
    assert book.count_death("b") == 1
    book.forget_deaths("a")
    assert book.count_death("a") == 1
