"""What a model answered to each question of a benchmark, as rows of a Parquet file."""

import io
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import pyarrow as pa
import pyarrow.parquet as pq

from c3l_ray.benchmarks.questions import BenchmarkData, BenchmarkQuestion
from c3l_ray.benchmarks.samples import add_suffix, group_by_image
from c3l_ray.errors import PreflightError
from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import Turn, error_reason

ANSWERS = "answers.parquet"
NOT_ASKED = "not_asked"
FAILED = "failed"
UNMEASURED = (NOT_ASKED, FAILED, "refused", "special_tokens")
"""Statuses of questions that tell nothing of the model: it was not asked, or could not be."""
NO_REPLY = ("thought", "unparsable")
"""Statuses of answers that say nothing, whatever is in them."""

Verdict = Callable[[str | None, BenchmarkQuestion], str | None]
"""What an answer to a question says, as its label would; None where it cannot be read."""


@dataclass(frozen=True, kw_only=True)
class BenchmarkAnswer:
    """A question and what the model answered.

    Attributes:
        question: of the benchmark.
        prompt: as the model was asked, with the suffix.
        answer: its reply; None where there is none.
        status: of the answer, as of a turn's; "failed" where the image did, "not_asked" where the
            run left the image for later, "special_tokens" where the prompt has one of the model's.
        error: why the question could not be asked.
        verdict: what the answer says, as the label would; None where it cannot be read.
    """

    question: BenchmarkQuestion
    prompt: str
    answer: str | None
    status: str
    error: str | None = None
    verdict: str | None = None

    @property
    def is_measured(self) -> bool:
        return self.status not in UNMEASURED

    @property
    def is_right(self) -> bool:
        return self.verdict == self.question.label


SCHEMA = pa.schema(
    [
        *(
            pa.field(name, pa.string(), nullable=False)
            for name in (
                *("key", "group", "item", "image", "question", "prompt", "label", "options"),
                "status",
            )
        ),
        *(pa.field(name, pa.string()) for name in ("answer", "verdict", "error")),
        pa.field("is_right", pa.bool_(), nullable=False),
    ]
)
"""Of answers.parquet; `options` is JSON."""


def collect_answers(
    folder: RunFolder, data: BenchmarkData, suffix: str, read_verdict: Verdict
) -> list[BenchmarkAnswer]:
    """The answer to every question, from the committed records of a run.

    Args:
        folder: of the run.
        data: of the benchmark.
        suffix: of the prompts.
        read_verdict: says what an answer says.

    Raises:
        C3LError: a manifest or its file cannot be read.
    """
    records = {}
    for manifest in read_manifests(folder):
        if manifest.file:
            columns = ["key", "turns", "error"]
            for record in read_records(folder, manifest, columns).to_pylist():
                records[record["key"]] = record
    places = {sample.image: sample.prompts for sample in group_by_image(data, suffix)}
    answers = []
    for question in data.questions:
        prompt = add_suffix(question, suffix)
        unanswered = BenchmarkAnswer(
            question=question, prompt=prompt, answer=None, status=NOT_ASKED
        )
        record = records.get(question.image)
        if record is None:
            answers.append(unanswered)
        elif record["error"] is not None:
            answers.append(replace(unanswered, status=FAILED, error=record["error"]))
        else:
            turn: Turn = record["turns"][places[question.image][prompt][1]]
            answers.append(_read_turn(unanswered, turn, read_verdict))
    return answers


def _read_turn(unanswered: BenchmarkAnswer, turn: Turn, read_verdict: Verdict) -> BenchmarkAnswer:
    alternatives = turn["alternatives"]
    if not alternatives:
        error = "special_tokens: the prompt holds a special token of the model"
        return replace(unanswered, status="special_tokens", error=error)
    (sampled,) = alternatives
    status, text = sampled["status"], sampled["answer"]
    if status == "refused":
        return replace(unanswered, status=status, error=f"refused: {text}")
    verdict = read_verdict(text, unanswered.question) if status not in NO_REPLY else None
    return replace(unanswered, answer=text, status=status, verdict=verdict)


def count_failures(answers: Sequence[BenchmarkAnswer]) -> tuple[dict[str, int], dict[str, str]]:
    """The questions that could not be asked, by the first word of why, and an example of each."""
    counts: dict[str, int] = {}
    examples: dict[str, str] = {}
    for answer in answers:
        if answer.error is not None:
            reason = error_reason(answer.error)
            counts[reason] = counts.get(reason, 0) + 1
            examples.setdefault(reason, f"{answer.question.key}: {answer.error}")
    return counts, examples


def write_answers(folder: RunFolder, origin: str, answers: Sequence[BenchmarkAnswer]) -> None:
    """Writes answers.parquet.

    Args:
        folder: of the run.
        origin: of the run.
        answers: to all questions.

    Raises:
        C3LError: the folder belongs to another run now.
        OSError: the storage failed.
    """
    rows = [_make_row(answer) for answer in answers]
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer, compression="zstd")
    folder.write_as(origin, ANSWERS, buffer.getvalue())


def read_answers(folder: RunFolder, read_verdict: Verdict | None = None) -> list[BenchmarkAnswer]:
    """The answers that a run wrote.

    Args:
        folder: of the run.
        read_verdict: says anew what the answers say, which another version may have read otherwise;
            None leaves what the run wrote.

    Raises:
        PreflightError: they cannot be read.
    """
    file = folder.location / ANSWERS
    try:
        table = pq.read_table(io.BytesIO(file.read()))
    except (OSError, pa.ArrowException) as error:
        raise PreflightError(f"{folder.flag} {file.address}: cannot be read: {error}") from error
    if not table.schema.equals(SCHEMA):
        raise PreflightError(
            f"{folder.flag} {file.address}: is not the answers of a benchmark of this version"
        )
    answers = []
    for row in table.to_pylist():
        question = BenchmarkQuestion(
            **{name: row[name] for name in ("key", "group", "item", "image", "label")},
            prompt=row["question"],
            options=json.loads(row["options"]),
        )
        fields = {name: row[name] for name in ("prompt", "answer", "status", "error", "verdict")}
        if read_verdict is not None and row["status"] not in (*UNMEASURED, *NO_REPLY):
            fields["verdict"] = read_verdict(row["answer"], question)
        answers.append(BenchmarkAnswer(question=question, **fields))
    return answers


def _make_row(answer: BenchmarkAnswer) -> dict[str, object]:
    question = asdict(answer.question)
    return {
        **question,
        "question": question["prompt"],
        "options": json.dumps(question["options"], ensure_ascii=False),
        **{name: getattr(answer, name) for name in ("prompt", "answer", "status", "error")},
        "verdict": answer.verdict,
        "is_right": answer.is_right,
    }
