from c3l_ray.evaluation.judgement import Judged, judged, truthful_share, truths
from c3l_ray.schema import RECORDS, conform
from tests.test_schema import RECORD


def test_good_turns_are_judged_and_images_that_are_no_scenes_are_not() -> None:
    photograph = {**RECORD, "meta": None, "key": "cat"}
    other_json = {**RECORD, "meta": '{"caption": "a cat"}', "key": "dog"}
    rows = [RECORD, photograph, other_json]
    table = conform({name: [row[name] for row in rows] for name in RECORDS.names}, RECORDS)
    found = list(judged([table]))
    assert [(each.image.split()[1], each.truth) for each in found] == [
        ("00000007", "true"),
        ("cat", None),
        ("dog", None),
    ]


def test_unknown_counts_as_not_true() -> None:
    turns = [Judged(image="", truth=t, turn={}) for t in ("true", "false", "unknown", "true", None)]
    assert truthful_share(turns) == 0.5
    assert truths(turns)["unknown"] == 1
    assert truthful_share(turns[-1:]) is None
