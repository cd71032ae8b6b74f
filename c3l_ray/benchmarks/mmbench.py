"""MMBench (Liu et al., arXiv 2307.06281): options that take turns, so that no letter is favoured.

The official file is a TSV with index, question, hint, A to D, answer, category and the image in
base64. In circular evaluation a question counts only where the model is right in every turn of its
options. Some files hold these turns already, as rows whose index is a million or more above the
question's, and whose image is the question's index; of other files they are made here. Where an
option or a hint is missing, some files have nothing and others the text "nan".
"""

import base64
import binascii
import csv
import hashlib
import io
import sys
from collections.abc import Iterator
from string import ascii_uppercase

from c3l_ray.benchmarks.official_files import DATA, is_folder, read_text
from c3l_ray.benchmarks.options import ask_with_options, letter_options
from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion, refuse_doubled_keys
from c3l_ray.errors import PreflightError
from c3l_ray.storage import Location

COLUMNS = ("index", "image", "question", "A", "B", "answer")
TURN = 1_000_000
MAX_DIGITS = 18  # of an index
NOT_A_NUMBER = "nan"
MAX_REFERENCE = 64  # characters; a longer `image` is an image, a shorter one another row's index

Row = dict[str, str]


def read_questions(data: Location) -> BenchmarkData:
    """The questions of a file in all turns of their options, grouped by category.

    Raises:
        PreflightError: a column is missing, or a row is faulty; the message names its index.
    """
    rows = _read_rows(data)
    encoded = {row["index"]: row["image"] for row in rows if len(row["image"]) > MAX_REFERENCE}
    names: dict[str, str] = {}
    images: dict[str, str] = {}
    for index, text in encoded.items():
        names[index] = f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.jpg"
        images[names[index]] = text
        _decode(text, f"{DATA} {data.address}: index {index}")
    has_turns = any(int(row["index"]) >= TURN for row in rows)
    questions: list[BenchmarkQuestion] = []
    for row in rows:
        place = f"{DATA} {data.address}: index {row['index']}"
        source = row["index"] if row["index"] in names else row["image"]
        if source not in names:
            raise PreflightError(
                f"{place}: its image is that of row {source[:40]!r}, which has none"
            )
        questions += _make_questions(row, names[source], place, makes_turns=not has_turns)
    refuse_doubled_keys(questions, data.address)

    def read_images() -> Iterator[tuple[str, bytes]]:
        for name, text in images.items():
            yield name, base64.b64decode(text)

    return BenchmarkData(questions=questions, image_root=None, read_images=read_images)


def _read_rows(data: Location) -> list[Row]:
    _refuse_folder(data)
    csv.field_size_limit(sys.maxsize)
    reader = csv.DictReader(io.StringIO(read_text(data), newline=""), delimiter="\t")
    try:
        columns = [*(reader.fieldnames or ())]
        rows = [{name: text or "" for name, text in row.items() if name} for row in reader]
    except csv.Error as error:
        raise PreflightError(f"{DATA} {data.address}: line {reader.line_num}: {error}") from error
    if missing := [name for name in COLUMNS if name not in columns]:
        raise PreflightError(
            f"{DATA} {data.address}: lacks the columns {', '.join(missing)}; it has "
            f"{', '.join(columns) or 'none'}"
        )
    for number, row in enumerate(rows, start=1):
        if not row["index"].strip().isdecimal() or len(row["index"]) > MAX_DIGITS:
            raise PreflightError(
                f"{DATA} {data.address}: row {number}: the index {row['index'][:40]!r} is no number"
            )
        row["index"] = str(int(row["index"]))
    if not rows:
        raise PreflightError(f"{DATA} {data.address}: holds no question")
    return rows


def _refuse_folder(data: Location) -> None:
    if is_folder(data):
        files = [child.name for child in data.list_children() if child.name.endswith(".tsv")]
        example = min(files, default="MMBench_DEV_EN.tsv")
        raise PreflightError(f"{DATA} {data.address}: is a folder; name a file, such as {example}")


def _read_cell(row: Row, column: str) -> str:
    """A text of a row; empty where it is missing."""
    text = row.get(column, "").strip()
    return "" if text.casefold() == NOT_A_NUMBER else text


def _make_questions(
    row: Row, image: str, place: str, *, makes_turns: bool
) -> Iterator[BenchmarkQuestion]:
    """The question of a row, and where the file has none of them, its turns."""
    if not _read_cell(row, "question"):
        raise PreflightError(f"{place}: lacks question")
    letters = [letter for letter in ascii_uppercase if _read_cell(row, letter)]
    texts = [_read_cell(row, letter) for letter in letters]
    options = letter_options(texts)
    if [*options] != letters or len(options) < 2:
        raise PreflightError(f"{place}: its options are {', '.join(letters) or 'none'}")
    label = row["answer"].strip()
    if label not in options:
        raise PreflightError(
            f"{place}: the answer {label!r} is none of its options; splits without answers are "
            "judged by MMBench's server only"
        )
    index = int(row["index"])
    item = str(index % TURN)
    for turn in range(len(texts) if makes_turns else 1):
        turned = letter_options([*texts[turn:], *texts[:turn]])
        yield BenchmarkQuestion(
            key=str(index + turn * TURN),
            group=_read_cell(row, "category") or "all questions",
            item=item,
            image=image,
            prompt=ask_with_options(row["question"], turned, _read_cell(row, "hint")),
            label=ascii_uppercase[(ascii_uppercase.index(label) - turn) % len(texts)],
            options=turned,
        )


def _decode(text: str, place: str) -> None:
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise PreflightError(f"{place}: the image is not base64: {error}") from error
