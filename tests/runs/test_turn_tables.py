"""Scores and turns as text for a terminal."""

from c3l_ray.runs.turn_tables import MAX_TEXT, format_table, make_printable, split_extremes


def test_the_ends_of_a_ranking_do_not_overlap() -> None:
    assert split_extremes([*range(9)]) == {"best": [0, 1, 2], "worst": [6, 7, 8]}
    assert split_extremes([*range(4)]) == {"best": [0, 1, 2], "worst": [3]}
    assert split_extremes([]) == {"best": [], "worst": []}


def test_numbers_stand_under_the_names_of_their_columns() -> None:
    table = format_table("kind", ("turns", "i2c"), {"short": [12, 0.25], "detail": [1, None]})
    first, *rows = table.splitlines()
    assert [row.split() for row in rows] == [["short", "12", "0.250"], ["detail", "1", "-"]]
    ends = first.index("turns") + len("turns"), first.index("i2c") + len("i2c")
    assert all(row[end - 1] != " " for row in rows for end in ends)


def test_what_a_model_wrote_gives_a_terminal_no_orders() -> None:
    assert make_printable("red\x1b[2J\n\n  square\r") == "red [2J square"
    assert len(make_printable("x " * 1000)) <= MAX_TEXT
