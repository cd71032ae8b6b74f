"""The section of a benchmark: its own figures, what could not be read, and wrong answers."""

from pathlib import Path
from typing import Any

import pytest

from c3l_ray.benchmarks.answers import BenchmarkAnswer
from c3l_ray.errors import PreflightError
from c3l_ray.report import benchmark_sections
from c3l_ray.report.benchmark_sections import BenchmarkSection, describe_benchmark
from c3l_ray.report.gather import find_outputs
from tests.benchmarks.builders import make_answer
from tests.examples import EncodeImage
from tests.report.benchmarks import make_answers, write_benchmark
from tests.report.runs import make_records, make_turn, write_run
from tests.report.test_page import ATTACK, Tags, make


def describe(path: Path) -> BenchmarkSection:
    found = find_outputs([str(path)])
    assert not found.runs
    (benchmark,) = found.benchmarks
    section = describe_benchmark(benchmark)
    assert section is not None
    return section


def read_table(table: Any) -> dict[str, dict[str, str]]:
    return {row[0]: dict(zip(table.head[1:], row[1:], strict=True)) for row in table.rows}


def test_figures_have_intervals_and_counts_have_none(tmp_path: Path) -> None:
    answers = make_answers(["yes", "no"] * 15 + ["no", "yes"] * 5)  # 30 of 40
    answers += make_answers(["yes", "no"] * 4, group="popular")  # all right
    figures = read_table(describe(write_benchmark(tmp_path, answers)).figures)
    assert [*figures] == ["random", "popular", "all"]
    assert figures["random"]["questions"] == "40" and figures["random"]["unreadable"] == "0"
    value, low, high = figures["random"]["accuracy"].replace(",", "").strip("]").split()
    assert (value, low[0]) == ("0.750", "[")
    assert float(low[1:]) == pytest.approx(0.75 - 1.96 * (0.75 * 0.25 / 40) ** 0.5, abs=0.03)
    assert float(high) == pytest.approx(0.75 + 1.96 * (0.75 * 0.25 / 40) ** 0.5, abs=0.03)
    assert figures["popular"]["accuracy"] == "1.000"


def test_an_interval_is_of_the_figure_it_stands_by(tmp_path: Path) -> None:
    path = write_benchmark(tmp_path, make_answers(["yes", "no", "no", "no"] * 5))
    result = (path / "result.json").read_text()
    assert '"accuracy": 0.75' in result
    (path / "result.json").write_text(result.replace('"accuracy": 0.75', '"accuracy": 0.5'))
    figures = read_table(describe(path).figures)
    assert figures["random"]["accuracy"] == "0.500" and "[" in figures["random"]["recall"]


def test_what_could_not_be_asked_or_read_is_counted(tmp_path: Path) -> None:
    answers = [
        *make_answers(["yes", None, "yes"]),
        make_answer("f", "yes", None, status="failed"),
        make_answer("n", "yes", None, status="not_asked"),
    ]
    counts = describe(write_benchmark(tmp_path, answers)).counts
    rows = {row[0]: row[1:] for row in counts.rows if row[0]}
    assert rows["questions"][0] == "5" and rows["unreadable answers"][0] == "1"
    assert rows["could not be asked: failed"] == ["1", "f: failed: for a test"]
    assert ["", "", "random 1: Well."] in counts.rows


def test_another_model_is_compared_with(tmp_path: Path) -> None:
    answers = make_answers(["yes", "no"] * 10)
    others = make_answers(["yes", "yes"] * 4 + ["yes", "no"] * 6)
    against = describe(write_benchmark(tmp_path, answers, against=others)).against
    assert against is not None
    title, table = against
    assert title == "smaller in runs/smaller, which was asked with the suffix 'Be brief.'"
    row = read_table(table)["random"]
    assert row["items"] == "20" and row["accuracy"].startswith("+0.200 [+0.")
    assert row["right: only this, only the other"] == "4 and 0"
    assert row["McNemar's p"] == "0.125"
    assert describe(write_benchmark(tmp_path / "alone", answers)).against is None


def test_figures_of_the_official_script_are_shown_where_they_differ(tmp_path: Path) -> None:
    answers = make_answers(["yes", "no", "yes", "no"])
    assert describe(write_benchmark(tmp_path / "same", answers)).official is None
    unreadable = make_answers(["yes", "no", "yes", None])  # POPE's script takes it for yes
    official = describe(write_benchmark(tmp_path / "other", unreadable)).official
    assert official is not None and "unreadable" in official.head


def test_mistakes_are_of_every_group_and_of_the_images_with_most_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark_sections, "MAX_MISTAKES", 4)
    wrong: list[BenchmarkAnswer] = []
    for group in ("random", "popular"):
        for number, image in enumerate(["a", "b", "b", "b", "c"]):
            key = f"{group} {number}"
            wrong.append(make_answer(key, "yes", "no", group=group, image=image))
    section = describe(write_benchmark(tmp_path, [*wrong, make_answer("x", "no", "no")]))
    places = [mistake.place for mistake in section.mistakes]
    assert sorted(places) == ["popular 0", "popular 1", "random 0", "random 1"]
    assert section.num_mistakes == 10


@pytest.mark.parametrize("where", ["records", "images", "image_root", "nowhere"])
def test_a_mistake_has_its_image_where_that_is_stored(
    tmp_path: Path, where: str, encoded: EncodeImage
) -> None:
    answers = make_answers(["no"])
    config = {"image_root": str(tmp_path / "val2014")} if where == "image_root" else {}
    path = tmp_path / "pope"
    folder = {"images": path / "images", "image_root": tmp_path / "val2014"}.get(where)
    if where == "records":
        records = make_records(1, image=encoded()) + make_records(1, image=encoded((9, 9)))
        write_run(path, [{**records[0], "key": "0.jpg"}, {**records[1], "key": "1.jpg"}])
    if folder is not None:
        folder.mkdir(parents=True)
        (folder / "0.jpg").write_bytes(encoded())
    keeps = {"keep_images": where == "records"}
    write_benchmark(path, answers, config=config, identity=keeps)
    (mistake,) = describe(path).mistakes
    assert (mistake.answer, mistake.said, mistake.label) == ("No.", "no", "yes")
    assert (mistake.image.url is not None) == (where != "nowhere")
    assert where == "nowhere" or mistake.image.size == (40, 30)


def test_an_image_whose_name_leads_elsewhere_is_not_read(
    tmp_path: Path, encoded: EncodeImage
) -> None:
    (tmp_path / "secret.jpg").write_bytes(encoded())
    path = write_benchmark(
        tmp_path / "pope", make_answers(["no"], image="../secret.jpg"), config={"data": "x"}
    )
    (path / "images").mkdir()
    assert describe(path).mistakes[0].image.url is None


def test_the_page_shows_what_the_model_answered_and_no_label_as_an_answer(tmp_path: Path) -> None:
    answers = make_answers(["yes", None, "no"], prompt=ATTACK, group=ATTACK)
    path = write_benchmark(tmp_path / "pope", answers, against=answers)
    gold = make_turn(question="Is there a dog?", answer="gold label yes")
    write_run(path, make_records(1, turns=[gold]), **read_report(path))
    parsed = Tags(make(path))
    assert "gold label yes" not in parsed.text and "Well." in parsed.text
    assert parsed.text.count(ATTACK) > 3
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    assert "Benchmarks" in parsed.text and "Is there a dog?" not in parsed.text
    unfinished = write_benchmark(tmp_path / "at-work", answers, has_result=False, finished=None)
    assert "It has no result yet" in make(unfinished)


def read_report(path: Path) -> dict[str, Any]:
    return find_outputs([str(path)]).benchmarks[0].report


def test_answers_that_cannot_be_read_are_told(tmp_path: Path) -> None:
    path = write_benchmark(tmp_path, make_answers(["yes"]))
    (path / "answers.parquet").unlink()
    with pytest.raises(PreflightError, match=r"^RUN .*answers\.parquet: cannot be read"):
        describe(path)
