from c3l_ray.evaluation.score_tables import format_extremes, format_medians
from c3l_ray.methods.scores import SCORE_NAMES
from tests.evaluation.builders import make_judged_turn


def test_each_group_of_turns_has_its_medians() -> None:
    turns = [make_judged_turn("true", value) for value in (1.0, 2.0, 4.0)]
    turns += [make_judged_turn(None, -1.0)]
    lines = [line.split("  ") for line in format_medians(turns, "round-1").splitlines()]
    assert lines[0][0] == "median of round-1"
    assert [line[0] for line in lines[1:]] == list(SCORE_NAMES)
    assert [cell.strip() for cell in lines[1] if cell.strip()][1:] == ["2.000", "-", "-1.000"]


def test_the_best_turns_have_the_lowest_visual_ifd_or_the_highest_gain() -> None:
    turns = [make_judged_turn("true", float(value), image=f"image-{value}") for value in range(9)]
    for by, best, worst in (("visual_ifd", "012", "678"), ("gain", "876", "210")):
        lines = format_extremes(turns, by).splitlines()
        images = [line.split()[0][-1] for line in lines if "image-" in line]
        assert "".join(images) == best + worst
        assert lines[0] == f"three best turns by {by}"
        assert lines[1] == (
            f"  image-{best[0]} (dialogue, true, {by} {best[0]}.000, i2c {best[0]}.000)"
        )
        assert lines[2:4] == ["    Q What colour is the circle?", "    A The circle is red."]
