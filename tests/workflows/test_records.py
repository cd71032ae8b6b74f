import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import PreflightError, TooManyFailures
from c3l_ray.identity import Identity
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.units import Unit
from c3l_ray.model_config import GeneratorModel
from c3l_ray.runs.commit import Manifest
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.folder import RunFolder
from c3l_ray.runs.report import RunProgress
from c3l_ray.runs.retry import plan_retry
from c3l_ray.workflows.records import (
    bound_failures,
    check_failures,
    check_images_found,
    make_paths_absolute,
)
from tests.examples import MakeConfig
from tests.workflows.reports import make_records_report


@pytest.mark.parametrize(
    ("status", "max_failed_share", "is_refused"),
    [
        ({"ok": 9, "failed": 1}, 0.1, False),
        ({"ok": 8, "failed": 2}, 0.1, True),
        ({"ok": 9, "failed": 1}, 0.0, True),
        ({"failed": 10}, 1.0, False),
        ({"ok": 1, "text_only": 9}, 0.0, False),  # no failure
        ({}, 0.0, False),
    ],
)
def test_more_failures_than_allowed_are_refused(
    status: dict[str, int], max_failed_share: float, is_refused: bool
) -> None:
    report = make_records_report(images=sum(status.values()), status=status)
    if not is_refused:
        check_failures(report, max_failed_share)
        return
    with pytest.raises(TooManyFailures, match=f"{status['failed']} of 10 images failed") as raised:
        check_failures(report, max_failed_share)
    assert raised.value.exit_status == 4


def test_a_run_of_which_nothing_was_scored_is_refused_whatever_is_allowed() -> None:
    report = make_records_report(
        images=3,
        status={"failed": 3},
        turn_status={"unscored": 2, "unparsable": 1},
        fault_examples={"KeyError": "a.tar 1: KeyError: 'pixel_values'"},
    )
    with pytest.raises(TooManyFailures, match=r"all of the 2 turns .*a\.tar 1: KeyError"):
        check_failures(report, 1.0)
    check_failures(dataclasses.replace(report, turn_status={"unscored": 2, "ok": 1}), 1.0)


def test_local_paths_become_absolute_and_names_stay(
    config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "images").mkdir()
    monkeypatch.chdir(tmp_path)
    fields: dict[str, Any] = {"layout": Layout(image_root="images")}
    changed = make_paths_absolute(config(**fields, model=GeneratorModel(name="owner/model")))
    assert changed.layout.image_root == str(tmp_path / "images")
    assert (changed.model.name, changed.scorer.name) == ("owner/model", None)


def test_an_input_without_any_image_is_refused() -> None:
    fields: dict[str, Any] = {"format": "parquet", "path": "a", "source": "a", "start": 0, "end": 0}
    empty = Unit(name="a", rows=0, **fields)
    damaged = Unit(name="b", rows=1, damage="row 0: not Parquet", **fields)
    joined = Unit(name="c", rows=2, members=[damaged, Unit(name="d", rows=1, **fields)], **fields)
    with pytest.raises(PreflightError, match=r"--input in: holds no image$"):
        check_images_found(["in"], [empty])
    with pytest.raises(PreflightError, match="--input a b: holds no image; damaged at row 0: not"):
        check_images_found(["a", "b"], [empty, damaged])
    check_images_found(["in"], [empty, damaged, joined])


@pytest.mark.parametrize(
    ("reason", "total", "num_units"),
    [
        ("exception", 1000, 7),  # of ten images each: 64 are allowed to any run
        ("fatal", 1000, 7),
        ("exception", 4000, 21),  # and 5 % to a larger one
        ("undecodable", 1000, 30),  # the images' own fault: all are done
    ],
)
def test_a_run_whose_rows_fail_as_nobody_expected_stops_early(
    config: MakeConfig, tmp_path: Path, reason: str, total: int, num_units: int
) -> None:
    manifests = [make_failed_unit(str(unit), {reason: 10}) for unit in range(30)]
    progress = make_progress(config, tmp_path, total)
    try:
        progress.follow(bound_failures(iter(manifests), progress, 0.05, Counter()))
    except TooManyFailures as error:
        assert reason != "undecodable" and f"for example a.tar 1: {reason}: how" in str(error)
        assert str(error).endswith(f"with --retry-failed {reason} these again")
    assert progress.counts.images == 10 * num_units


def make_failed_unit(unit: str, reasons: dict[str, int], edition: int = 0) -> Manifest:
    """The manifest of a unit of ten images that failed for these reasons."""
    counts = Counts(
        images=10,
        status={"failed": sum(reasons.values())},
        reasons=reasons,
        failure_examples={reason: f"a.tar 1: {reason}: how" for reason in reasons},
    )
    return Manifest(
        unit=unit, source="a.tar", origin="o", attempt="a", counts=counts, edition=edition
    )


def make_progress(config: MakeConfig, tmp_path: Path, total: int) -> RunProgress:
    folder = RunFolder.open(str(tmp_path))
    progress = RunProgress(folder, config(), Identity({}), "generate")
    progress.total_images = total
    return progress


def test_a_run_that_stopped_early_goes_on_once_the_cause_is_mended(
    config: MakeConfig, tmp_path: Path
) -> None:
    """Neither the rows of the earlier command nor those that are healed stop it again."""
    progress = make_progress(config, tmp_path, 1000)
    earlier = [make_failed_unit(str(unit), {"exception": 6, "fatal": 4}) for unit in range(9)]
    for manifest in earlier:
        progress.add(manifest, new=False)
    rest = [make_failed_unit(str(unit), {}) for unit in range(9, 20)]
    unexpected: Counter[str] = Counter()
    progress.follow(bound_failures(iter(rest), progress, 0.05, unexpected))
    assert progress.counts.images == 200 and not unexpected.total()

    retry = plan_retry(earlier, ["exception"])
    progress.expect(retry, retry.manifests)
    healed = [make_failed_unit(str(unit), {"fatal": 4}, 1) for unit in range(9)]
    progress.follow(bound_failures(iter(healed), progress, 0.05, unexpected, retry))
    assert progress.counts.reasons == {"fatal": 36} and not unexpected.total()


def test_rows_that_fail_again_in_a_second_try_stop_it(config: MakeConfig, tmp_path: Path) -> None:
    progress = make_progress(config, tmp_path, 1000)
    earlier = [make_failed_unit(str(unit), {"exception": 10}) for unit in range(9)]
    for manifest in earlier:
        progress.add(manifest, new=False)
    retry = plan_retry(earlier, [])
    progress.expect(retry, retry.manifests)
    again = [make_failed_unit(str(unit), {"exception": 10}, 1) for unit in range(9)]
    with pytest.raises(TooManyFailures, match="since 70 failed"):
        progress.follow(bound_failures(iter(again), progress, 0.05, Counter(), retry))
