"""Columns of the types that pandas, polars, DuckDB, pyarrow and datasets write."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inputs.layout import Layout, TurnsLayout
from tests.inputs.messages import chat_messages, llava_messages
from tests.inputs.shards import find_shards, read_rows
from tests.inputs.turns import TWO_FOLLOWING, TWO_STANDING_ALONE, ShortTurn, list_turns

HF = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
BYTES = {"bytes": b"x", "path": None}
LLAVA = llava_messages(("human", "<image>\nQ"), ("gpt", "A"), ("human", "R"), ("gpt", "B"))
MESSAGE = pa.struct([("from", pa.string()), ("value", pa.string())])


def write(path: Path, **columns: Any) -> Path:
    pq.write_table(pa.table(columns), path / "a.parquet")
    return path / "a.parquet"


IMAGES: dict[str, tuple[str, pa.Array]] = {
    "large_binary": ("image", pa.array([b"x"], pa.large_binary())),
    "binary_view": ("image", pa.array([b"x"], pa.binary_view())),
    "categories": ("image", pa.array([b"x"]).dictionary_encode()),
    "a struct": ("image", pa.array([BYTES], HF)),
    "capitals": ("IMAGE", pa.array([b"x"])),
    "a list of one": ("images", pa.array([[BYTES]], pa.list_(HF))),
    "a large list of one": ("images", pa.array([[b"x"]], pa.large_list(pa.binary()))),
    "a list of a size": ("images", pa.array([[BYTES]], pa.list_(HF, 1))),
}


@pytest.mark.parametrize("case", IMAGES)
def test_images_are_read_from_columns_of_many_types(case: str, tmp_path: Path) -> None:
    name, images = IMAGES[case]
    (row,) = read_rows(write(tmp_path, **{name: images}))
    assert (row["image"], row["error"]) == (b"x", None)


def test_a_row_of_several_images_says_so_and_one_of_none_too(tmp_path: Path) -> None:
    path_only = {"bytes": None, "path": "cat.jpg"}
    images = pa.array([[BYTES], [BYTES] * 3, [], None, [None], [path_only]], pa.list_(HF))
    path = write(tmp_path, images=images, question=["Q"] * 6, answer=["A"] * 6)
    rows = read_rows(path, TurnsLayout())
    text_only = "text_only: column images is null"
    assert [row["error"] for row in rows] == [
        None,
        "several_images: the row has 3, and a row is one image",
        text_only,
        text_only,
        text_only,
        "no_image: the row names cat.jpg and holds no bytes of it",
    ]
    assert [row["error"] for row in read_rows(path)][2] == "no_image: column images is null"


CAPTIONS: dict[str, tuple[pa.Array, str | None]] = {
    "large_string": (pa.array(["two\nlines"], pa.large_string()), "two\nlines"),
    "string_view": (pa.array(["a"], pa.string_view()), "a"),
    "categories": (pa.array(["a"]).dictionary_encode(), "a"),
    "binary": (pa.array(["é".encode()]), "é"),
    "binary that is no text": (pa.array([b"\xe9"]), "\ufffd"),
    "lists": (pa.array([["a", None, "b"]]), "a\nb"),
    "lists of binary": (pa.array([[b"a"]]), "a"),
    "no items": (pa.array([[]], pa.list_(pa.string())), None),
    "numbers": (pa.array([3]), None),
}


@pytest.mark.parametrize("is_named", [False, True])
@pytest.mark.parametrize("case", CAPTIONS)
def test_captions_are_read_from_columns_of_many_types(
    case: str, is_named: bool, tmp_path: Path
) -> None:
    captions, caption = CAPTIONS[case]
    path = write(tmp_path, image=[b"x"], **{"words" if is_named else "TEXT": captions})
    (row,) = read_rows(path, Layout(caption="words" if is_named else None))
    assert row["caption"] == ("3" if case == "numbers" and is_named else caption)


def test_meta_that_is_no_text_is_json(tmp_path: Path) -> None:
    path = write(tmp_path, image=[b"x"], about=[{"a": "é", "b": [1, None]}])
    (row,) = read_rows(path, Layout(meta="about"))
    assert json.loads(row["meta"]) == {"a": "é", "b": [1, None]}


def test_keys_may_be_categories(tmp_path: Path) -> None:
    path = write(tmp_path, image=[b"x"] * 2, key=pa.array(["k", None]).dictionary_encode())
    assert [row["key"] for row in read_rows(path)] == ["k", "00000001"]


PAIRS = [("Q", "A"), ("R", "B")]
CAULDRON = [{"user": question, "assistant": answer, "source": "s"} for question, answer in PAIRS]
MAPS = [[("from", "human"), ("value", "Q")], [("from", "gpt"), ("value", "A")]]
TURNS: dict[str, tuple[dict[str, Any], list[ShortTurn]]] = {
    "a large list": (
        {"conversations": pa.array([LLAVA], pa.large_list(MESSAGE))},
        TWO_FOLLOWING,
    ),
    "a list of a size": ({"conversations": pa.array([LLAVA], pa.list_(MESSAGE, 4))}, TWO_FOLLOWING),
    "maps": (
        {"conversations": pa.array([MAPS], pa.list_(pa.map_(pa.string(), pa.string())))},
        TWO_FOLLOWING[:1],
    ),
    "JSON text": ({"conversations": [json.dumps(LLAVA)]}, TWO_FOLLOWING),
    "JSON text in bytes": ({"messages": [json.dumps(LLAVA).encode()]}, TWO_FOLLOWING),
    "the_cauldron": ({"texts": [CAULDRON]}, TWO_STANDING_ALONE),
    "capitals": ({"Conversations": [LLAVA]}, TWO_FOLLOWING),
    "captions beside messages": (
        {"texts": ["a caption"], "messages": [chat_messages(("user", "Q"), ("assistant", "A"))]},
        TWO_FOLLOWING[:1],
    ),
    "query and response": ({"query": ["Q"], "response": ["A"]}, TWO_STANDING_ALONE[:1]),
    "Question and Answer": ({"Question": ["Q"], "Answer": [b"A"]}, TWO_STANDING_ALONE[:1]),
    "instruction and output": (
        {"instruction": ["Q"], "input": [None], "output": ["A"]},
        TWO_STANDING_ALONE[:1],
    ),
    "instruction, input and output": (
        {"instruction": ["What"], "input": ["now?"], "output": ["A"]},
        [("given", "What\nnow?", "A", "ok")],
    ),
}


@pytest.mark.parametrize("case", TURNS)
def test_turns_are_read_from_columns_of_many_types(case: str, tmp_path: Path) -> None:
    columns, expected = TURNS[case]
    (row,) = read_rows(write(tmp_path, image=[b"x"], **columns), TurnsLayout())
    assert (list_turns(row), row["error"]) == (expected, None)


def test_a_named_column_of_json_text_is_read(tmp_path: Path) -> None:
    path = write(tmp_path, image=[b"x"] * 2, chat=[json.dumps(LLAVA), "no JSON"])
    good, bad = read_rows(path, TurnsLayout(turns="chat"))
    assert list_turns(good) == TWO_FOLLOWING
    assert bad["error"] == "no_turn: the sample has no question and answer"


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        (Layout(), "image"),
        (Layout(image="photo", caption="image"), "image"),
        (TurnsLayout(image="photo"), "question"),
    ],
)
def test_two_columns_of_one_name_are_refused(layout: Layout, name: str, tmp_path: Path) -> None:
    names = ["photo", *([name] * 2), "answer"]
    arrays = [pa.array([b"x"])] * 3 + [pa.array(["A"])]
    pq.write_table(pa.Table.from_arrays(arrays, names), tmp_path / "a.parquet")
    with pytest.raises(PreflightError, match=f"2 columns are named {name}; rename"):
        find_shards(tmp_path, layout=layout)


def test_two_columns_of_one_name_that_are_not_read_do_no_harm(tmp_path: Path) -> None:
    names, arrays = ["id", "image", "id"], [pa.array([1]), pa.array([b"x"]), pa.array([2])]
    pq.write_table(pa.Table.from_arrays(arrays, names), tmp_path / "a.parquet")
    (row,) = read_rows(tmp_path)
    assert row["image"] == b"x"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([["x"]]),  # names of files
        pa.array([[1, 2]]),  # pixels
        pa.array([[[b"x"]]]),
        pa.array(["ffd8"]),
        pa.array([{"path": "x"}]),
    ],
)
def test_columns_that_hold_no_bytes_are_refused(column: pa.Array, tmp_path: Path) -> None:
    path = write(tmp_path, image=column)
    with pytest.raises(PreflightError, match=r"no image column.*The file has image"):
        find_shards(path)
    with pytest.raises(PreflightError, match=r"column image is .*, not binary, a struct"):
        find_shards(path, layout=Layout(image="image"))
