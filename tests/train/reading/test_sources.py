"""What --input may name, and a run's records as training reads them."""

import dataclasses
import json
import logging
import pickle
from pathlib import Path

import pytest

from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.runs.folder import RunFolder
from c3l_ray.train.objectives import Contrast
from c3l_ray.train.reading.dataset_source import DatasetSource
from c3l_ray.train.reading.sources import RecordsSource, file_address, open_source
from tests.runs.tables import make_report
from tests.train.records import MakeTrainConfig, make_record, write_run


@pytest.fixture
def source(tmp_path: Path) -> RecordsSource:
    write_run(tmp_path / "run", num_scenes=5, scenes_per_file=3)
    return RecordsSource(RunFolder.open(str(tmp_path / "run")), "test")


def test_rows_are_read_by_their_numbers_in_any_order(source: RecordsSource) -> None:
    addresses = [address for address, _ in source.texts()]
    records = source.read(addresses[0], [2, 0])
    assert [record["image_id"] for record in records] == ["scene-0002", "scene-0000"]
    assert records[0]["image"] == make_record(2)["image"]
    assert addresses == source.digests()


def test_texts_have_no_images(source: RecordsSource) -> None:
    records = [record for _, records in source.texts() for record in records]
    assert [record["image_id"] for record in records] == [f"scene-{i:04d}" for i in range(5)]
    assert set(records[0]) == {"image_id", "source", "status", "caption", "meta", "turns"}
    turn_fields = {"kind", "instruction", "status", "question", "answer"}
    assert set(records[0]["turns"][0]) == turn_fields


def test_a_source_travels_without_its_manifests(source: RecordsSource) -> None:
    assert source.manifests
    restored = pickle.loads(pickle.dumps(source))
    assert "manifests" not in vars(restored)
    address = file_address(source.manifests[1])
    assert restored.read(address, [0]) == source.read(address, [0])


def test_a_damaged_file_is_not_learnt_from(source: RecordsSource) -> None:
    manifest = source.manifests[0]
    path = Path(source.folder.path) / str(manifest.file)
    path.write_bytes(path.read_bytes() + b"more")
    with pytest.raises(C3LError, match="is damaged"):
        source.read(file_address(manifest), [0])


def test_records_without_images_are_refused(train_config: MakeTrainConfig, tmp_path: Path) -> None:
    config = train_config()
    write_run(*config.input, num_scenes=1, keep_images=False)
    with pytest.raises(PreflightError, match=r"hold no images .* --no-keep-images"):
        open_source(config)


def test_token_weights_without_stored_token_gains_are_refused(
    train_config: MakeTrainConfig,
) -> None:
    config = train_config(contrast=Contrast(token_weights="vig"))
    write_run(*config.input, num_scenes=1)
    with pytest.raises(
        PreflightError, match=r"token-weights vig: .* hold no token gains.*--token-g"
    ):
        open_source(config)
    assert open_source(train_config())
    for objective in ("cgvlm", "vigc"):  # which do not weigh tokens
        assert open_source(dataclasses.replace(config, objective=objective))
    report_path = Path(config.input[0]) / "run.json"
    report = json.loads(report_path.read_text())
    report["identity"]["token_gains"] = True
    report_path.write_text(json.dumps(report))
    assert open_source(config)


@pytest.mark.parametrize("finished", [True, False])
def test_an_unfinished_run_is_read_with_a_warning(
    train_config: MakeTrainConfig, caplog: pytest.LogCaptureFixture, finished: bool
) -> None:
    config = train_config()
    write_run(*config.input, num_scenes=1, finished=finished)
    with caplog.at_level(logging.WARNING):
        source = open_source(config)
    assert source.origin and len(source.digests()) == 1
    assert ("is not finished; training uses what it has now" in caplog.text) == (not finished)


def test_scores_are_only_in_a_run(train_config: MakeTrainConfig, tmp_path: Path) -> None:
    for inputs in ((), ("a", "b")):
        with pytest.raises(PreflightError, match="must be the output folder of one run"):
            open_source(train_config(input=inputs))
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(
        PreflightError, match=r"list\.json: is a file, and .*c3l learns .*jobs\.sco"
    ):
        open_source(train_config(input=(str(tmp_path / "list.json"),)))
    dataset = tmp_path / "dataset"
    dataset.mkdir()
    (dataset / "selection.json").write_text(json.dumps({"input": "RUN"}))
    with pytest.raises(PreflightError, match=r"is a dataset written by jobs.select.* RUN"):
        open_source(train_config(input=(str(dataset),)))


@pytest.mark.parametrize("objective", ["cgvlm", "vigc", "conversations"])
def test_what_is_no_dataset_is_refused(
    train_config: MakeTrainConfig, tmp_path: Path, objective: str
) -> None:
    with pytest.raises(PreflightError, match="must be the output folder of one run"):
        open_source(train_config(objective=objective, input=()))
    with pytest.raises(PreflightError, match="--input /nowhere: does not exist"):
        open_source(train_config(objective=objective, input=("/nowhere",)))
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "run.json").write_text(json.dumps(make_report(job="train")))
    with pytest.raises(PreflightError, match=r"is the output of jobs\.train and holds no records"):
        open_source(train_config(objective=objective, input=(str(tmp_path / "tuned"),)))


@pytest.mark.parametrize("objective", ["c3l", "conversations"])
def test_the_labels_of_a_benchmark_are_not_learnt(
    train_config: MakeTrainConfig, tmp_path: Path, objective: str
) -> None:
    write_run(str(tmp_path / "pope"), num_scenes=2)
    report = json.loads((tmp_path / "pope" / "run.json").read_text())
    (tmp_path / "pope" / "run.json").write_text(json.dumps({**report, "job": "benchmark"}))
    write_run(str(tmp_path / "other"), num_scenes=2)
    pope, other = str(tmp_path / "pope"), str(tmp_path / "other")
    inputs = [(pope,)] if objective == "c3l" else [(pope,), (other, pope)]
    for names in inputs:
        config = train_config(objective=objective, input=names)
        with pytest.raises(PreflightError, match=f"^--input {pope}: is the output of jobs.evaluat"):
            list(open_source(config).texts())


def test_several_runs_are_a_dataset(train_config: MakeTrainConfig, tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("one", "two")]
    for name in names:
        write_run(name, num_scenes=3)
    source = open_source(train_config(objective="vigc", input=tuple(names)))
    assert isinstance(source, DatasetSource)
    kinds = [
        {turn["kind"] for turn in record["turns"]}
        for _, records in source.texts()
        for record in records
    ]
    assert kinds == [{"dialogue", "detail", "reasoning", "short", "yes_no"}] * 6
