"""JSON text in every form that holds samples, with faults in it, read in pieces of any size."""

import codecs
import json
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.inputs.formats import json_samples, json_text
from c3l_ray.inputs.formats.json_samples import Entry, MalformedList, parse_file, parse_range
from c3l_ray.storage import Location

SAMPLES: list[dict[str, Any]] = [{"id": f"s{i}", "image": f"{i}.jpg", "t": "é这"} for i in range(4)]
LINES = [json.dumps(sample, ensure_ascii=False) for sample in SAMPLES]
LIST = json.dumps(SAMPLES, ensure_ascii=False)
FORMS: dict[str, str] = {
    "a.json": LIST,
    "indented.json": json.dumps(SAMPLES, indent=2),
    "lines.json": "\n".join(LINES),
    "lines.jsonl": "\n".join(LINES) + "\n",
    "crlf.jsonl": "\r\n".join(LINES) + "\r\n",
    "gaps.jsonl": "\n\n" + "\n \n\t\n".join(LINES),
    "no-break spaces.jsonl": "\u00a0\n".join(LINES),
    "commas.jsonl": ",\n".join(LINES),
    "two in a line.jsonl": " ".join(LINES),
    "indented.jsonl": "\n".join(json.dumps(sample, indent=1) for sample in SAMPLES),
    "list.jsonl": LIST,
    "named.json": json.dumps({"version": 1.5, "info": {"x": [1]}, "data": SAMPLES, "end": None}),
    "two lists.json": json.dumps({"train": SAMPLES[:2], "no": [{"x": 1}], "test": SAMPLES[2:]}),
    "told by its second.json": json.dumps({"data": [{"id": "no"}, *SAMPLES], "no": [{"x": 1}]}),
    "by id.json": json.dumps({sample["id"]: sample for sample in SAMPLES}, indent=1),
    "nested.json": json.dumps([SAMPLES[:3], SAMPLES[3:]]),
    "joined.json": json.dumps(SAMPLES[:3]) + "\n" + json.dumps(SAMPLES[3:]),
}


def has_image(sample: dict[str, Any]) -> bool:
    return "image" in sample


def parse(path: Path) -> list[Entry]:
    return list(parse_file(Location.connect(str(path)), has_image))


@pytest.mark.parametrize("chunk_bytes", [1, 7, 2**20])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32"])
@pytest.mark.parametrize("name", FORMS)
def test_samples_are_found_in_every_form(
    name: str, encoding: str, chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "CHUNK_BYTES", chunk_bytes)
    path = tmp_path / name
    path.write_bytes(FORMS[name].encode(encoding))
    entries = parse(path)
    if name == "told by its second.json":
        assert entries.pop(0).sample == {"id": "no"}
    assert [entry.sample for entry in entries] == SAMPLES
    location = Location.connect(str(path))
    ends = [*(entry.start for entry in entries[1:]), entries[-1].end]
    for cut in range(1, 4):  # as units are cut: from a sample on, up to where the next begins
        read = [
            *parse_range(location, entries[0].start, ends[cut - 1], has_image),
            *parse_range(location, entries[cut].start, ends[-1], has_image),
        ]
        assert read == entries
    if name == "by id.json":
        assert [entry.name for entry in entries] == [sample["id"] for sample in SAMPLES]


def test_one_object_is_one_sample(tmp_path: Path) -> None:
    for indent in (None, 1):
        (tmp_path / "a.json").write_text(json.dumps(SAMPLES[0], indent=indent))
        assert [entry.sample for entry in parse(tmp_path / "a.json")] == SAMPLES[:1]


BAD_LINES: dict[str, bytes] = {
    "cut": LINES[1][:25].encode(),
    "cut at the brace": b"{",
    "cut in a list": b'{"id": [',
    "a comma too many": (LINES[1][:-1] + ",}").encode(),
    "a raw tab": LINES[1].replace("s1", "s\t1").encode(),
    "null": b"null",
    "a number": b"-12.5",
    "a list": f"[{LINES[1]}]".encode(),
    "a bracket": b"[",
    "the end of a list": b"]",
    "a name": b'"data": [',
    "text": json.dumps(LINES[1]).encode(),
    "Latin-1": LINES[1].encode().replace("é".encode(), b"\xe9"),
    "words after it": f"{LINES[1]} and more".encode(),
    "no words": b"\x80\x81\xff",
    "too deep": b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "too long a number": b'{"a": ' + b"1" * 5000 + b"}",
}


@pytest.mark.parametrize("chunk_bytes", [3, 2**20])
@pytest.mark.parametrize("place", [0, 1, 3])
@pytest.mark.parametrize("case", BAD_LINES)
def test_a_bad_line_is_one_entry_and_the_others_stay(
    case: str, place: int, chunk_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if case == "too deep" and chunk_bytes == 3:
        pytest.skip("the same, and it takes long")
    if case == "a bracket" and place == 0:
        pytest.skip("a list that does not end: its samples are read, and its damage is a row")
    monkeypatch.setattr(json_text, "CHUNK_BYTES", chunk_bytes)
    lines = [line.encode() for line in LINES]
    lines[place] = BAD_LINES[case]
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join(lines) + b"\n")
    entries = parse(path)
    good = [sample for number, sample in enumerate(SAMPLES) if number != place]
    assert [entry.sample for entry in entries] == [*good[:place], None, *good[place:]]
    (bad,) = (entry for entry in entries if entry.sample is None)
    assert bad.fault and bad.start == sum(len(line) + 1 for line in lines[:place])
    location = Location.connect(str(path))
    ends = [*(entry.start for entry in entries[1:]), entries[-1].end]
    pieces = zip(entries, ends, strict=True)
    for entry, end in pieces:
        (read,) = parse_range(location, entry.start, end, has_image)
        assert (read.start, read.end, read.sample) == (entry.start, entry.end, entry.sample)


def test_a_bad_line_does_not_read_the_rest_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_text, "CHUNK_BYTES", 100)
    path = tmp_path / "a.jsonl"
    path.write_text("\n".join([LINES[0], LINES[1][:25], *LINES * 1000]))
    reads: list[int] = []
    open_location = Location.open

    def open_and_count(location: Location) -> Any:
        file = open_location(location)
        read = file.read

        def read_and_count(size: int = -1) -> bytes:
            reads.append(size)
            return read(size)

        file.read = read_and_count  # type: ignore[method-assign]
        return file

    monkeypatch.setattr(Location, "open", open_and_count)
    entries = parse_file(Location.connect(str(path)), has_image)
    assert [next(entries).fault is None for _ in range(3)] == [True, False, True]
    assert sum(reads[1:]) < 2000  # the first look is at the head


@pytest.mark.parametrize(
    ("element", "fault"),
    [
        (b"null", "not a sample with named fields but null"),
        (b'"text"', "not a sample with named fields but"),
        (b'{"id": "\xe9"}', "bytes that are not UTF-8"),
    ],
)
def test_an_element_that_is_no_sample_ends_no_list(
    element: bytes, fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"[" + LINES[0].encode() + b", " + element + b", " + LINES[1].encode() + b"]")
    good, bad, other = parse(path)
    assert (good.sample, bad.sample, other.sample) == (SAMPLES[0], None, SAMPLES[1])
    assert bad.fault is not None and bad.fault.startswith(fault)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "byte 0: not a list"),
        (b"{}", "byte 0: not a list of samples, but an object of nothing"),
        (b'{"a": [1], "b": {"c": [2]}}', "an object of a, b$"),
        (LIST[:-1].encode(), "the list does not end"),
        (LIST[:-3].encode(), "not a list of samples: "),
        (LIST.encode() + b"x", "more than a list of samples"),
        (LIST.encode() + b"]", "more than a list of samples"),
        (codecs.BOM_UTF16_LE + LIST.encode("utf-16-le")[:-1], "byte"),
    ],
)
def test_what_is_no_list_says_where(content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(MalformedList, match=message):
        parse(tmp_path / "a.json")


@pytest.mark.parametrize("name", ["a.json", "a.jsonl"])
def test_brackets_that_are_nested_deep_cost_their_sample_alone(name: str, tmp_path: Path) -> None:
    deep = "[" * json_samples.MAX_NESTING + "]" * json_samples.MAX_NESTING
    flat = "[" + ", ".join(["[]"] * 2 * json_samples.MAX_NESTING) + "]"
    samples = [f'{{"image": "a.png", "x": {content}}}' for content in (flat, deep, "[]")]
    text = "\n".join(samples) if name == "a.jsonl" else f"[{', '.join(samples)}]"
    (tmp_path / name).write_text(text)
    faults = [entry.fault for entry in parse(tmp_path / name)]
    assert faults == [None, "brackets nested over 100 deep", None]


@pytest.mark.parametrize("depth", [990, 1_000_000])
def test_brackets_that_python_cannot_follow_cost_their_line_alone(
    depth: int, tmp_path: Path
) -> None:
    lines = ['{"image": "a.png"}', f'{{"x": {"[" * depth}{"]" * depth}}}', '{"image": "b.png"}']
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    assert [entry.sample is None for entry in parse(tmp_path / "a.jsonl")] == [False, True, False]
