"""Judges answers about scenes before and after their correction.

VIGC (arXiv 2308.12714) finds that long answers profit most, as a model goes astray late in them: so
the true share of the sentences of detail answers is given by their place. Then come the true shares
of all answers, and of the tenth that some scores would keep, before and after.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pyarrow as pa

from c3l_ray.errors import PreflightError
from c3l_ray.evaluation.judgement import parse_scene
from c3l_ray.methods.scores import LOWER_IS_BETTER, RankedBy
from c3l_ray.methods.sentences import split_sentences
from c3l_ray.runs.commit import read_manifests, read_records
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes.draw import Scene
from c3l_ray.scenes.truth import TRUE, Truth, judge_turn
from c3l_ray.schema import Record, Turn

TOP = 0.1
RANKED_BY: tuple[RankedBy, ...] = ("i2c", "i2c_vocab", "gain", "visual_ifd", "image_logprob")

ScoreValues = Mapping[str, float | None]


@dataclass(frozen=True, kw_only=True)
class JudgedAnswer:
    """A draft, or the answer that its correction made of it.

    Attributes:
        sentences: the truth of each sentence; an answer that is not of the kind detail is judged
            whole, as one sentence.
        scores: of the answer.
    """

    sentences: tuple[Truth, ...]
    scores: ScoreValues

    @property
    def is_true(self) -> bool:
        return bool(self.sentences) and all(truth == TRUE for truth in self.sentences)


@dataclass(frozen=True, kw_only=True)
class JudgedCorrection:
    """A draft and its corrected answer, to a question of some kind."""

    kind: str
    draft: JudgedAnswer
    answer: JudgedAnswer


def report_corrections(path: str) -> str:
    """The report on a run of jobs.generate over scenes that corrected its answers.

    Raises:
        PreflightError: the path is no run, or the run contains no corrected answers about scenes.
    """
    folder = RunFolder.open(path, "RUN")
    folder.read_run()
    manifests = [manifest for manifest in read_manifests(folder) if manifest.file]
    tables = (read_records(folder, manifest, ["meta", "turns"]) for manifest in manifests)
    corrections = list(judge_corrections(tables))
    if not corrections:
        raise PreflightError(
            f"{path}: contains no corrected answers about scenes; this report needs the synthetic "
            "world and a run with --correct or --method vigc"
        )
    tokens = sum((manifest.counts for manifest in manifests), Counts()).correction_tokens
    return (
        f"{format_corrections(corrections)}\n\n"
        f"correction generated {tokens['generated']} tokens and kept {tokens['kept']}"
    )


def judge_corrections(tables: Iterable[pa.Table]) -> Iterator[JudgedCorrection]:
    """Judges every corrected turn about a scene, in tables of the schema RECORDS."""
    for table in tables:
        records: list[Record] = table.select(["meta", "turns"]).to_pylist()
        for record in records:
            scene = parse_scene(record["meta"])
            for turn in record["turns"]:
                if scene is None or turn["correction"] is None:
                    continue
                yield JudgedCorrection(
                    kind=turn["kind"],
                    draft=JudgedAnswer(
                        sentences=_judge_sentences(scene, turn, turn["draft"] or ""),
                        scores=cast(ScoreValues, turn["draft_scores"] or {}),
                    ),
                    answer=JudgedAnswer(
                        sentences=_judge_sentences(scene, turn, turn["answer"] or ""),
                        scores=cast(ScoreValues, turn["scores"] or {}),
                    ),
                )


def format_corrections(corrections: Sequence[JudgedCorrection]) -> str:
    """The tables: sentences of detail answers by place; all answers; what scores would keep."""
    return "\n\n".join(
        [
            format_sentences_by_place(corrections),
            format_answers_by_kind(corrections),
            format_top_answers(corrections),
        ]
    )


def format_sentences_by_place(corrections: Sequence[JudgedCorrection]) -> str:
    """The true share of the sentences of detail answers by their place, before and after."""
    detail = [correction for correction in corrections if correction.kind == "detail"]
    drafts = [correction.draft.sentences for correction in detail]
    answers = [correction.answer.sentences for correction in detail]
    longest = max((len(truths) for truths in (*drafts, *answers)), default=0)
    lines = ["sentence      drafts     true   answers     true"]
    for place in range(longest):
        lines.append(
            _format_row(
                str(place + 1),
                *(
                    [truths[place] == TRUE for truths in side if len(truths) > place]
                    for side in (drafts, answers)
                ),
            )
        )
    lines.append(
        _format_row(
            "all",
            *([truth == TRUE for truths in side for truth in truths] for side in (drafts, answers)),
        )
    )
    return "\n".join(lines)


def format_answers_by_kind(corrections: Sequence[JudgedCorrection]) -> str:
    """The share of wholly true answers by kind, and how many became so or are so no longer."""
    lines = ["answer        drafts     true   answers     true   became true   no longer true"]
    kinds = sorted({correction.kind for correction in corrections})
    for kind in (*kinds, "all"):
        same_kind = [correction for correction in corrections if kind in (correction.kind, "all")]
        drafts = [correction.draft.is_true for correction in same_kind]
        answers = [correction.answer.is_true for correction in same_kind]
        changes = Counter(zip(drafts, answers, strict=True))
        row = _format_row(kind, drafts, answers)
        lines.append(f"{row}   {changes[False, True]:11}   {changes[True, False]:14}")
    return "\n".join(lines)


def format_top_answers(corrections: Sequence[JudgedCorrection]) -> str:
    """The true share of the tenth of drafts, and of answers, that scores rank highest."""
    lines = [f"top {TOP:.0%} by    drafts     true   answers     true"]
    drafts = [correction.draft for correction in corrections]
    answers = [correction.answer for correction in corrections]
    for score in RANKED_BY:
        tops = ([answer.is_true for answer in _take_top(side, score)] for side in (drafts, answers))
        lines.append(_format_row(score, *tops))
    return "\n".join(lines)


def _take_top(answers: Sequence[JudgedAnswer], score: RankedBy) -> list[JudgedAnswer]:
    """The tenth of the answers with this score that it ranks highest, at least one."""
    scored = [
        (value, answer) for answer in answers if (value := answer.scores.get(score)) is not None
    ]
    sign = 1 if score in LOWER_IS_BETTER else -1
    scored.sort(key=lambda value_and_answer: sign * value_and_answer[0])
    return [answer for _, answer in scored[: max(1, round(TOP * len(scored)))]]


def _judge_sentences(scene: Scene, turn: Turn, answer: str) -> tuple[Truth, ...]:
    sentences = split_sentences(answer) if turn["kind"] == "detail" else [answer]
    return tuple(judge_turn(scene, turn["question"], sentence) for sentence in sentences)


def _format_row(label: str, *sides: Sequence[bool]) -> str:
    """A row with, for each side, how many there are and the true share of them."""
    cells = (
        f"{len(side):7}  {f'{sum(side) / len(side):.1%}' if side else '-':>7}" for side in sides
    )
    return f"{label:<13}{'   '.join(cells)}"
