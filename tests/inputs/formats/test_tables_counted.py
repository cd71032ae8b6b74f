"""What goes in can be counted against what comes out, whatever table or list it came in."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from c3l_ray.errors import PreflightError
from c3l_ray.inputs import read
from c3l_ray.inputs.formats import json_text, parquet
from c3l_ray.inputs.layout import TurnsLayout
from tests.inputs.messages import llava_messages
from tests.inputs.shards import read_rows

TURN = llava_messages(("human", "<image>\nQ é"), ("gpt", "A"))
ROOT = "ROOT"  # stands for the images' folder
SAMPLES: dict[str, tuple[dict[str, Any], str | None]] = {
    "good": ({"image": "x/1.jpg", "conversations": TURN}, None),
    "absolute": ({"image": f"{ROOT}/x/1.jpg", "conversations": TURN}, None),
    "a path": ({"image_path": "x/../x/1.jpg", "query": "Q", "response": "A"}, None),
    "a part": ({"messages": [{"type": "image", "image": "x/1.jpg"}]}, "no_turn"),
    "text only": ({"conversations": TURN}, "text_only"),
    "gone": ({"image": "gone.jpg", "conversations": TURN}, "unreadable"),
    "outside": ({"image": "/etc/passwd", "conversations": TURN}, "no_image"),
    "several": ({"images": ["x/1.jpg", "x/1.jpg"], "conversations": TURN}, "several_images"),
    "no turn": ({"image": "x/1.jpg", "caption": "a [{ caption"}, "no_turn"),
    "no question": (
        {"image": "x/1.jpg", "conversations": llava_messages(("human", "<image>"), ("gpt", "A"))},
        "no_turn",
    ),
}
NO_SAMPLES = ["null", '"text"', "-1.5e3", "true"]
BAD_LINES = [
    *NO_SAMPLES,
    "[1, 2]",
    '{"image": "x/1.jpg"',
    '{"a": "\t"}',
    "{,}",
    "what?",
    '{"a": 1} b',
]

Elements = list[str]
samples = st.sampled_from(sorted(SAMPLES))


def write_list(elements: Elements, indent: int | None) -> str:
    texts = [json.dumps(json.loads(element), indent=indent) for element in elements]
    return f"[{', '.join(texts)}]"


def write_object(elements: Elements, indent: int | None) -> str:
    half = len(elements) // 2
    first, second = write_list(elements[:half], indent), write_list(elements[half:], indent)
    return f'{{"version": 1.25, "train": {first}, "no": ["a"], "test": {second}}}'


def write_by_id(elements: Elements, indent: int | None) -> str:
    return json.dumps({f"s{i}": json.loads(text) for i, text in enumerate(elements)}, indent=indent)


def write_lines(elements: Elements, _: int | None) -> str:
    return "\n".join(elements) + "\n"


WRITERS: dict[str, tuple[Callable[[Elements, int | None], str], list[str]]] = {
    "a list": (write_list, NO_SAMPLES),
    "an object": (write_object, []),
    "an object by ids": (write_by_id, []),
    "lines": (write_lines, BAD_LINES),
}


@st.composite
def lists(draw: st.DrawFn) -> tuple[str, list[str], list[str | None]]:
    """The name of a form, the text of each sample in it, and the reason that each row fails for."""
    form = draw(st.sampled_from(sorted(WRITERS)))
    bad = WRITERS[form][1]
    names = draw(st.lists(st.one_of(samples, st.sampled_from(bad or ["good"])), max_size=12))
    texts, reasons = [], []
    for number, name in enumerate(names):
        sample, reason = SAMPLES.get(name, (None, "damaged_sample"))
        texts.append(name if sample is None else json.dumps({"id": number, **sample}))
        reasons.append(reason)
    return form, texts, reasons


@settings(deadline=None, max_examples=300)
@given(
    lists(),
    st.sampled_from([".json", ".jsonl"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.sampled_from([None, 1]),
    st.integers(1, 5),
    st.sampled_from([1, 30, 2**20]),
)
def test_samples_in_are_rows_out_or_refused_before_the_start(
    content: tuple[str, list[str], list[str | None]],
    ending: str,
    encoding: str,
    indent: int | None,
    unit_rows: int,
    chunk_bytes: int,
) -> None:
    form, elements, reasons = content
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "UNIT_ROWS", unit_rows)
        patch.setattr(json_text, "CHUNK_BYTES", chunk_bytes)
        folder = Path(name)
        (folder / "x").mkdir()
        (folder / "x" / "1.jpg").write_bytes(b"image")
        text = WRITERS[form][0]([element.replace(ROOT, name) for element in elements], indent)
        (folder / f"a{ending}").write_text(text, encoding=encoding)
        try:
            rows = read_rows(folder / f"a{ending}", TurnsLayout())
        except PreflightError as refusal:
            assert None not in reasons, refusal
            return
    assert [row["error"] and row["error"].split(":")[0] for row in rows] == reasons
    assert [row["image"] for row in rows if row["error"] is None] == [b"image"] * reasons.count(
        None
    )
    assert len({row["image_id"] for row in rows}) == len(rows)


def make_binary(images: list[bytes | None]) -> pa.Array:
    return pa.array(images, pa.binary())


def make_struct(images: list[bytes | None]) -> pa.Array:
    type_ = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": image, "path": None} for image in images], type_)


def make_lists(images: list[bytes | None]) -> pa.Array:
    structs = make_struct(images)
    return pa.ListArray.from_arrays(pa.array(range(len(images) + 1), pa.int32()), structs)


def make_categories(images: list[bytes | None]) -> pa.Array:
    return make_binary(images).dictionary_encode()


@settings(deadline=None, max_examples=150)
@given(
    st.lists(st.one_of(st.none(), st.binary(min_size=1, max_size=40)), min_size=1, max_size=30),
    st.sampled_from([make_binary, make_struct, make_lists, make_categories]),
    st.sampled_from(["image", "IMAGE", "images", "photo"]),
    st.integers(1, 40),
    st.integers(1, 9),
    st.integers(1, 200),
    st.integers(1, 10),
)
def test_rows_in_are_rows_out_or_refused_before_the_start(
    images: list[bytes | None],
    make_column: Callable[[list[bytes | None]], pa.Array],
    column: str,
    group_rows: int,
    unit_rows: int,
    unit_bytes: int,
    batch_rows: int,
) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(read, "UNIT_ROWS", unit_rows)
        patch.setattr(read, "UNIT_BYTES", unit_bytes)
        patch.setattr(parquet, "BATCH_ROWS", batch_rows)
        numbers = [str(number) for number in range(len(images))]
        columns = {column: make_column(images), "question": numbers, "answer": numbers}
        path = Path(folder) / "a.parquet"
        pq.write_table(pa.table(columns), path, row_group_size=group_rows)
        try:
            rows = read_rows(path, TurnsLayout())
        except PreflightError:
            assert column == "photo"
            return
    assert column != "photo"
    assert [row["image"] for row in rows] == images
    assert [row["turns"][0]["question"] for row in rows] == numbers
    assert [row["error"] is None for row in rows] == [image is not None for image in images]
    assert len({row["image_id"] for row in rows}) == len(rows)
