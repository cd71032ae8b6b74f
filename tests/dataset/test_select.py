import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from c3l_ray.config import SelectConfig
from c3l_ray.dataset import select as select_module
from c3l_ray.runs.folder import Output
from c3l_ray.dataset.select import select
from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.schema import STAGED_ROWS, RECORDS, conform
from tests.test_schema import RECORD

Run = Callable[..., Path]


def turn(i2c: float | None, *, clip: float = 0.0, status: str = "ok") -> dict[str, Any]:
    example = RECORD["turns"][0]
    scores = {**example["scores"], "i2c": i2c, "clip": clip}
    return {**example, "question": f"q {i2c}", "status": status, "scores": scores}


@pytest.fixture
def run(tmp_path: Path, encoded: Callable[..., bytes]) -> Run:
    """A run whose units hold these images' turns: a list of units of lists of turns."""

    def make(
        *units: list[list[dict[str, Any]]], images: bool = True, meta: str | None = None
    ) -> Path:
        output = Output(str(tmp_path / "run"))
        output.write_json("run.json", {"origin": "o", "finished": "now"})
        for number, rows in enumerate(units):
            name = f"u-{number:05d}"
            table = conform(
                {
                    "image_id": [f"{name}-{row}" for row in range(len(rows))],
                    "key": [str(row) for row in range(len(rows))],
                    "source": ["a.tar"] * len(rows),
                    "image": [
                        encoded(format_=("JPEG", "PNG", "WEBP")[row % 3]) if images else None
                        for row in range(len(rows))
                    ],
                    "meta": [meta] * len(rows),
                    "turns": rows,
                    "unit": [name] * len(rows),
                    "unit_rows": [len(rows)] * len(rows),
                },
                STAGED_ROWS,
            )
            output.commit(name, "a.tar", table, "o")
        return tmp_path / "run"

    return make


def chosen(dataset: Path) -> list[dict[str, Any]]:
    table = pa.concat_tables(map(pq.read_table, sorted(dataset.glob("part-*.parquet"))))
    assert table.schema.equals(RECORDS)
    return [turn for row in table["turns"].to_pylist() for turn in row]


def test_the_top_share_of_all_turns_is_kept_with_its_images(run: Run) -> None:
    path = run([[turn(0.1), turn(0.9)], [turn(0.2)]], [[turn(0.8), turn(0.3)]])
    selection = select(SelectConfig(input=str(path), top=0.4))
    assert [t["question"] for t in chosen(path / "dataset")] == ["q 0.9", "q 0.8"]
    assert (selection["turns"], selection["turns_scored"], selection["images"]) == (2, 5, 2)
    assert selection["threshold"] == pytest.approx(0.8)
    assert json.loads((path / "dataset" / "selection.json").read_text()) == selection


def test_the_top_of_each_image_is_at_least_one_turn(run: Run) -> None:
    path = run([[turn(0.1), turn(0.9)], [turn(0.2)]], [[turn(0.8), turn(0.3)]])
    select(SelectConfig(input=str(path), top=0.1, per="image"))
    assert [t["question"] for t in chosen(path / "dataset")] == ["q 0.9", "q 0.2", "q 0.8"]


def test_above_one_top_is_a_number_of_turns(run: Run) -> None:
    path = run([[turn(0.1), turn(0.9)], [turn(0.2)]], [[turn(0.8), turn(0.3)]])
    assert select(SelectConfig(input=str(path), top=3))["turns"] == 3
    assert select(SelectConfig(input=str(path), top=5000))["turns"] == 5
    assert select(SelectConfig(input=str(path), top=2, per="image"))["turns"] == 5
    with pytest.raises(PreflightError, match=r"--top 2.5"):
        SelectConfig(input=str(path), top=2.5)


def of_kind(kind: str, i2c: float, answer: str = "red") -> dict[str, Any]:
    return {**turn(i2c), "kind": kind, "answer": answer}


def test_within_a_kind_each_kind_gives_its_share(run: Run) -> None:
    short = [of_kind("short", i / 100) for i in range(10)]
    detail = [of_kind("detail", 5 + i) for i in range(10)]
    path = run([[turn] for turn in (*short, *detail)])
    select(SelectConfig(input=str(path), top=0.2))
    assert {t["kind"] for t in chosen(path / "dataset")} == {"detail"}
    selection = select(SelectConfig(input=str(path), top=0.2, within="kind"))
    kept = [t["question"] for t in chosen(path / "dataset")]
    assert sorted(kept) == ["q 0.08", "q 0.09", "q 13", "q 14"]
    assert (selection["within"], selection["threshold"]) == ("kind", pytest.approx(0.85))


def test_within_lengths_short_answers_are_kept_beside_long_ones(run: Run) -> None:
    turns = [of_kind("short", i, "x" * (i + 1)) for i in range(16)]
    path = run([[turn] for turn in turns])
    select(SelectConfig(input=str(path), top=0.25, within="kind_and_length"))
    assert [len(t["answer"]) for t in chosen(path / "dataset")] == [4, 8, 12, 16]


@pytest.mark.parametrize("within", ["dataset", "kind"])
def test_of_a_ratio_of_losses_the_lowest_is_best(run: Run, within: Any) -> None:
    turns = [turn(ratio) for ratio in (0.5, 0.1, 2.0)]
    for each in turns:
        each["scores"]["visual_ifd"] = each["scores"]["i2c"]
    path = run([turns])
    selection = select(SelectConfig(input=str(path), top=0.3, by="visual_ifd", within=within))
    assert [t["question"] for t in chosen(path / "dataset")] == ["q 0.1"]
    assert selection["threshold"] == pytest.approx(0.1 if within == "dataset" else 5 / 6)


def test_turns_that_are_not_ok_or_have_no_score_are_never_chosen(run: Run) -> None:
    path = run([[turn(0.9, status="duplicate"), turn(None), turn(0.1), turn(float("nan"))]])
    selection = select(SelectConfig(input=str(path), top=1.0))
    assert [t["question"] for t in chosen(path / "dataset")] == ["q 0.1"]
    assert selection["turns_scored"] == 1


def test_another_score_ranks_otherwise(run: Run) -> None:
    path = run([[turn(0.9, clip=0.1), turn(0.1, clip=0.9)]])
    select(SelectConfig(input=str(path), top=0.5, by="clip"))
    assert [t["question"] for t in chosen(path / "dataset")] == ["q 0.1"]


def test_chance_depends_on_the_seed_alone(run: Run) -> None:
    path = run([[turn(i / 10) for i in range(10)] for _ in range(5)])
    picks = []
    for seed in (0, 0, 1):
        select(SelectConfig(input=str(path), top=0.2, by="random", seed=seed))
        picks.append([(t["question"]) for t in chosen(path / "dataset")])
    assert picks[0] == picks[1] != picks[2]
    assert len(picks[0]) == 10


def test_ties_fall_the_same_way_each_time(run: Run) -> None:
    path = run([[turn(0.0), turn(0.0)]], [[turn(0.0), turn(0.0)]])
    select(SelectConfig(input=str(path), top=0.5))
    rows = pq.read_table(path / "dataset" / "part-00000.parquet")
    assert rows["image_id"].to_pylist() == ["u-00000-0"]
    assert len(rows["turns"].to_pylist()[0]) == 2


def test_many_small_units_become_few_files(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    path = run(*[[[turn(0.5)], [turn(0.4)]] for _ in range(5)])
    monkeypatch.setattr(select_module, "FILE_ROWS", 4)
    assert select(SelectConfig(input=str(path), top=1.0))["files"] == 3
    assert len(chosen(path / "dataset")) == 10


def test_llava_json_names_images_that_are_there(run: Run) -> None:
    path = run([[turn(0.1), turn(0.9)], [turn(0.2)], [turn(0.3)]])
    select(SelectConfig(input=str(path), top=1.0))
    samples = json.loads((path / "dataset" / "llava.json").read_text())
    assert len(samples) == len({sample["id"] for sample in samples}) == 4
    for sample in samples:
        with Image.open(path / "dataset" / sample["image"]) as image:
            assert image.size == (40, 30)
        human, model = sample["conversations"]
        assert human["from"] == "human" and human["value"].startswith("<image>\nq 0.")
        assert model == {"from": "gpt", "value": "The circle is red."}
    assert {Path(sample["image"]).suffix for sample in samples} == {".jpg", ".png", ".webp"}


@pytest.mark.parametrize(
    ("meta", "name"),
    [
        (None, "a.tar/0"),
        ("not JSON", "a.tar/0"),
        ('["image"]', "a.tar/0"),
        ('{"image": null}', "a.tar/0"),
        ('{"id": 1, "image": "coco/train2017/1.jpg"}', "coco/train2017/1.jpg"),
        ('{"id": 1, "images": ["1.jpg"]}', "1.jpg"),
    ],
)
def test_records_without_images_name_them_as_they_were_named(
    run: Run, meta: str | None, name: str
) -> None:
    path = run([[turn(0.1)]], images=False, meta=meta)
    select(SelectConfig(input=str(path), top=1.0))
    (sample,) = json.loads((path / "dataset" / "llava.json").read_text())
    assert sample["image"] == name


def test_the_chosen_turns_of_an_image_can_be_one_sample(run: Run) -> None:
    path = run([[turn(0.3), turn(0.1), turn(0.9)], [turn(0.2)]])
    select(SelectConfig(input=str(path), top=0.75, group="image"))
    samples = json.loads((path / "dataset" / "llava.json").read_text())
    asked = [[said["value"] for said in each["conversations"][::2]] for each in samples]
    assert asked == [["<image>\nq 0.3", "q 0.9"], ["<image>\nq 0.2"]]
    assert len({each["id"] for each in samples}) == 2


def test_a_selection_replaces_a_selection_and_nothing_else(run: Run, tmp_path: Path) -> None:
    path = run([[turn(0.1)], [turn(0.2)]])
    for top in (1.0, 0.5):
        select(SelectConfig(input=str(path), top=top))
    assert len(chosen(path / "dataset")) == 1
    assert len(list((path / "dataset" / "images").iterdir())) == 1
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.txt").write_text("precious")
    with pytest.raises(PreflightError, match="something other than an earlier selection"):
        select(SelectConfig(input=str(path), output=str(tmp_path / "thesis")))
    assert (tmp_path / "thesis" / "chapter.txt").read_text() == "precious"


def test_a_selection_that_was_cut_short_is_made_again(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = run([[turn(0.1)], [turn(0.2)]])
    monkeypatch.setattr(select_module.export.Llava, "close", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        select(SelectConfig(input=str(path), top=1.0))
    monkeypatch.undo()
    select(SelectConfig(input=str(path), top=1.0))
    assert len(chosen(path / "dataset")) == 2


def test_a_refusal_leaves_the_earlier_selection(run: Run) -> None:
    path = run([[turn(0.1)]])
    select(SelectConfig(input=str(path), top=1.0))
    for file in (path / "manifests").iterdir():
        file.unlink()
    with pytest.raises(PreflightError):
        select(SelectConfig(input=str(path), top=1.0))
    assert len(chosen(path / "dataset")) == 1


@pytest.mark.parametrize("at", [10, -100])
def test_a_damaged_file_is_told(run: Run, at: int) -> None:
    path = run([[turn(0.1)]])
    (file,) = (path / "records").iterdir()
    content = bytearray(file.read_bytes())
    content[at] ^= 1
    file.write_bytes(content)
    with pytest.raises(C3LError, match=r"is damaged|cannot be read"):
        select(SelectConfig(input=str(path), top=1.0))


def test_what_is_no_run_is_refused(tmp_path: Path, run: Run) -> None:
    with pytest.raises(PreflightError, match=r"no run\.json"):
        select(SelectConfig(input=str(tmp_path)))
    path = run([[turn(None)]])
    with pytest.raises(PreflightError, match="--by i2c: no turn"):
        select(SelectConfig(input=str(path)))
