"""The tables on arms: tuned generators, corrected answers, aligned adapters, students."""

from c3l_ray.methods.c3l import KINDS
from tests.evidence import alignment_stage, correction_stage, student_stage
from tests.evidence.tables import (
    Found,
    arm_table,
    format_table,
    list_differences,
    list_repetitions,
    number,
    percent,
    titled_table,
)
from tests.evidence.tuning_measures import BETWEEN_ARMS
from tests.evidence.tuning_stage import ARMS, UNTUNED
from tests.evidence.worlds import WORLDS


def format_tuning_tables(found: Found) -> list[str]:
    """Every arm, its differences from the untuned model, and what its turns are like."""
    arms = [arm for arm in ARMS if ("true, " + arm.name, "unbiased, own turns") in found]
    own = "unbiased, own turns"
    columns: dict[str, tuple[str, str]] = {
        "own turns": ("true, {}", own),
        "own less none": ("true, {} less none", own),
        "at none's forms": ("true if asked as untuned, {}", own),
        "T 0.7 less none": ("true, {} less none", "unbiased, fixed questions, T 0.7"),
        "greedy less none": ("true, {} less none", "unbiased, fixed questions, greedy"),
        "readable": ("readable, {}", own),
        "readable answers": ("readable, {}", "unbiased, fixed questions, T 0.7"),
        "of known form": ("of known form, {}", "unbiased, fixed questions, T 0.7"),
    }
    parts = [
        "Unbiased scenes, in percent; fixed questions are the untuned model's own:",
        arm_table(found, [arm.name for arm in arms], columns),
    ]
    tuned = [arm.name for arm in arms if arm.name != UNTUNED]
    verdicts = (
        f"- {label}: "
        + list_differences(
            found, {f"`{name}`": (f"true, {name} less {UNTUNED}", group) for name in tuned}
        )
        for label, group in (
            ("own turns", own),
            ("fixed questions, T 0.7", "unbiased, fixed questions, T 0.7"),
            ("fixed questions, greedy", "unbiased, fixed questions, greedy"),
        )
    )
    parts += [
        f"Arms whose true share differs from that of `{UNTUNED}` by more than the interval:",
        "\n".join(verdicts),
    ]
    columns = {
        f"{world}, {decoding}": ("true, {} less none", f"{world}, fixed questions, {decoding}")
        for world in WORLDS
        for decoding in ("T 0.7", "greedy")
        if world != "unbiased"
        and (f"true, {UNTUNED}", f"{world}, fixed questions, {decoding}") in found
    }
    parts += [
        "Other worlds, fixed questions, less none, in points:",
        arm_table(found, tuned, columns),
        "What the turns on unbiased scenes are like; bounds are given where scenes are resampled:",
        format_table(
            "tuned on",
            [
                *("distinct questions", "forms of question"),
                *("things described, %", "less none"),
                *("false sentences a description", "less none"),
            ],
            {
                f"`{arm.name}`": [
                    number(found, f"distinct questions, {arm.name}", own, digits=0),
                    number(found, f"forms of question, {arm.name}", own, digits=1),
                    percent(found, f"things described, {arm.name}", f"{own}, detail"),
                    percent(
                        *(found, f"things described, {arm.name} less {UNTUNED}", f"{own}, detail")
                    ),
                    number(
                        *(found, f"false sentences a description, {arm.name}", f"{own}, detail")
                    ),
                    number(
                        found,
                        f"false sentences a description, {arm.name} less {UNTUNED}",
                        f"{own}, detail",
                    ),
                ]
                for arm in arms
            },
        ),
        "Arms less each other, true in points, over the repetitions that both have:",
        format_table(
            "arm less another",
            ["seeds", "own turns", "T 0.7", "greedy"],
            {
                f"`{arm}` less `{other}`": [
                    ", ".join(map(str, found[f"true, {arm} less {other}", own].seeds)),
                    *(
                        percent(found, f"true, {arm} less {other}", group)
                        for group in (
                            *(own, "unbiased, fixed questions, T 0.7"),
                            "unbiased, fixed questions, greedy",
                        )
                    ),
                ]
                for arm, other in BETWEEN_ARMS
                if (f"true, {arm} less {other}", own) in found
            },
        ),
        "By kind, own turns true on unbiased scenes, in percent:",
        format_table(
            "tuned on",
            KINDS,
            {
                f"`{arm.name}`": [
                    percent(found, f"true, {arm.name}", f"{own}, {kind}") for kind in KINDS
                ]
                for arm in arms
            },
        ),
        "Each repetition by itself, less none, in points:",
        format_table(
            "tuned on",
            ["own turns", "T 0.7", "greedy"],
            {
                f"`{name}`": [
                    list_repetitions(found, f"true, {name} less none", group)
                    for group in (
                        *(own, "unbiased, fixed questions, T 0.7"),
                        "unbiased, fixed questions, greedy",
                    )
                ]
                for name in tuned
            },
        ),
        "The arms:",
        "\n".join(f"- `{arm.name}`: {arm.description}" for arm in ARMS),
    ]
    return parts


def format_correction_tables(found: Found) -> list[str]:
    """By drafts, sentences by their place and whole answers by kind, before and after."""
    parts = []
    places = [f"sentence {place + 1}" for place in range(correction_stage.LAST_PLACE)]
    labels = [*places, "all sentences", *(f"whole answers, {kind}" for kind in ("all", *KINDS))]
    for arm in correction_stage.ARMS:
        rows = {}
        for label in labels:
            group = f"{arm} drafts, {label}"
            if ("draft true", group) in found:
                rows[label] = [
                    str(found["draft true", group].num_items),
                    percent(found, "draft true", group),
                    str(found["corrected answer true", group].num_items),
                    percent(found, "corrected answer true", group),
                    percent(found, "corrected less draft", group),
                ]
        titles = ["drafts", "true, %", "answers", "true, %", "difference"]
        parts += titled_table(f"Drafts {arm}, sentences of descriptions:", "", titles, rows)
    return parts


def format_student_tables(found: Found) -> list[str]:
    """Every student's accuracy and F1, and its difference from the random control."""
    columns = {
        "questions": ("true, {}", "questions of all kinds"),
        "less random": (f"true, {{}} less {student_stage.RANDOM}", "questions of all kinds"),
        "presence": ("true, {}", "presence"),
        "F1": ("F1, {}", "presence"),
        "F1 less random": (f"F1, {{}} less {student_stage.RANDOM}", "presence"),
    }
    students = [
        student
        for student in student_stage.STUDENTS
        if (f"F1, {student.name}", "presence") in found
    ]
    names = [student.name for student in students]
    return [
        "Greedy answers to bare questions about unbiased scenes, in percent; presence asks whether "
        "a thing is there, as POPE does, and F1 takes yes as the positive answer:",
        arm_table(found, names, columns),
        f"Less {student_stage.RANDOM}, each repetition by itself, in points:",
        format_table(
            "tuned on",
            ["questions", "F1"],
            {
                f"`{name}`": [
                    list_repetitions(found, f"{measure}, {name} less {student_stage.RANDOM}", group)
                    for measure, group in (
                        ("true", "questions of all kinds"),
                        ("F1", "presence"),
                    )
                ]
                for name in names
                if name != student_stage.RANDOM
            },
        ),
        "The students:",
        "\n".join(f"- `{student.name}`: {student.description}" for student in students),
    ]


def format_alignment_tables(found: Found) -> list[str]:
    """By share of the instruction data, the students of each alignment."""
    losses = (alignment_stage.NO_ALIGNMENT, *alignment_stage.LOSSES)
    rows: dict[str, list[str]] = {}
    for share in alignment_stage.SHARES:
        names = [alignment_stage.student_name(share, loss) for loss in losses]
        difference = f"true, {names[-1]} less {names[-2]}"
        rows[f"{share} %"] = [
            percent(found, measure, group)
            for group in alignment_stage.GROUPS
            for measure in (*(f"true, {name}" for name in names), difference)
        ]
    columns = [*losses, f"{losses[-1]} less {losses[-2]}"]
    return [
        "Greedy answers of students to bare questions about unbiased scenes, true in percent: "
        "questions of all kinds, then whether a thing is there:",
        format_table("share of the data", [*columns, *columns], rows),
        f"{columns[-1].capitalize()}, each repetition by itself, in points:",
        format_table(
            "share of the data",
            list(alignment_stage.GROUPS),
            {
                f"{share} %": [
                    list_repetitions(
                        *(found, f"true, {contrastive} less {plain}", group),
                    )
                    for group in alignment_stage.GROUPS
                ]
                for share in alignment_stage.SHARES
                for plain, contrastive in [
                    [alignment_stage.student_name(share, loss) for loss in losses[-2:]]
                ]
            },
        ),
        "What the adapter learns before the instruction data:",
        "\n".join(f"- `{loss}`: {alignment_stage.DESCRIPTIONS[loss]}" for loss in losses),
    ]
