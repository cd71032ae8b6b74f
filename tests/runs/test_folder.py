import pickle
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from c3l_ray.errors import C3LError, PreflightError
from c3l_ray.identity import Identity
from c3l_ray.runs.commit import commit_unit, read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.schema import VERSION
from tests.runs.tables import make_report, stage_three_images

ONE = Identity({"schema": VERSION, "turns_per_image": 5, "model": "m"})
TWO = Identity({"schema": VERSION, "turns_per_image": 3, "model": "m"})


@pytest.fixture(params=["local", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> RunFolder:
    """An empty run folder: every test here runs on both."""
    if request.param == "local":
        return RunFolder.open(str(tmp_path / "run"))
    return RunFolder.open(f"{request.getfixturevalue('s3')}/run")


def write_result(folder: RunFolder, name: str) -> None:
    folder.write(name, b"{}")


def test_a_folder_belongs_to_one_origin(folder: RunFolder) -> None:
    folder.claim(ONE, "generate")
    folder.claim(ONE, "generate")
    commit_unit(folder, "u-00000", "a.tar", None, ONE.origin)  # without rows, but committed
    with pytest.raises(PreflightError) as raised:
        folder.claim(TWO, "generate")
    message = str(raised.value)
    assert f"origin {ONE.origin}" in message and f"origin {TWO.origin}" in message
    assert "turns_per_image: 5 there, 3 now" in message
    assert "model" not in message.split("differ in")[1]


def test_a_claim_writes_whose_the_folder_is(folder: RunFolder) -> None:
    folder.claim(ONE, "score")
    report = folder.read_json("run.json")
    assert report is not None
    assert (report["job"], report["origin"]) == ("score", ONE.origin)
    assert (report["identity"], report["finished"]) == (ONE.content, None)


@pytest.mark.parametrize(
    ("job", "left", "result"),
    [
        ("generate", "records/u-00000-attempt.parquet", "manifests/u-00000.json"),
        ("train", "checkpoints/.validate_storage_marker", "checkpoints/checkpoint_2026/.metadata"),
        ("train", "measurements.json", "model/config.json"),
        ("c3l", "round-0/run.json", "round-0/manifests/u-00000.json"),
        ("c3l", "train-1/run.json", "train-1/model/config.json"),
    ],
)
def test_a_folder_without_results_is_begun_anew(
    folder: RunFolder, job: str, left: str, result: str
) -> None:
    folder.claim(ONE, job)
    write_result(folder, left)
    folder.claim(TWO, job)
    report = folder.read_json("run.json")
    assert report is not None and report["identity"] == TWO.content
    write_result(folder, result)
    folder.claim(TWO, job)
    with pytest.raises(PreflightError, match="turns_per_image: 3 there, 5 now"):
        folder.claim(ONE, job)


def test_another_job_does_not_take_a_folder(folder: RunFolder) -> None:
    folder.claim(ONE, "generate")
    with pytest.raises(PreflightError, match="belongs to origin"):
        folder.claim(TWO, "train")


def test_a_folder_that_is_begun_anew_forgets_what_input_it_indexed_and_how_far_it_was(
    folder: RunFolder,
) -> None:
    folder.claim(ONE, "generate")
    for name in ("shards/a.json", "joins/000000.json", "errors/a.json", "progress/a.json"):
        folder.write(name, b"{}")
    folder.claim(ONE, "generate")
    assert folder.list_json("shards") and folder.list_json("joins")
    folder.claim(TWO, "generate")
    assert not any(map(folder.list_json, ("shards", "joins", "errors", "progress")))


def test_a_job_whose_folder_was_begun_anew_commits_nothing(folder: RunFolder) -> None:
    folder.claim(ONE, "generate")
    commit = partial(commit_unit, folder, "u-00000", "a.tar", stage_three_images())
    folder.write_as(ONE.origin, "measurements.json", b"[]")
    folder.claim(TWO, "generate")
    for step in (
        partial(commit, ONE.origin),
        partial(folder.write_as, ONE.origin, "measurements.json", b"[]"),
    ):
        with pytest.raises(C3LError, match="has begun it anew with other settings"):
            step()
    assert not list(read_manifests(folder))
    assert commit(TWO.origin).origin == TWO.origin


def test_a_unit_of_another_origin_is_not_taken_for_ones_own(folder: RunFolder) -> None:
    folder.claim(ONE, "generate")
    commit_unit(folder, "u-00000", "a.tar", stage_three_images(), ONE.origin)
    folder.write_json("run.json", {"origin": TWO.origin})  # claimed in the moment of the commit
    with pytest.raises(C3LError, match=f"by a job of origin {ONE.origin}"):
        commit_unit(folder, "u-00000", "a.tar", stage_three_images(), TWO.origin)


def test_an_output_of_an_older_schema_is_refused_as_one(folder: RunFolder) -> None:
    folder.write_json("run.json", {"origin": "o", "facts": {"schema": 2, "turns": 5}})
    with pytest.raises(
        PreflightError, match=rf"another version.*schema 2; this one has schema {VERSION}"
    ):
        folder.claim(ONE, "generate")
    with pytest.raises(PreflightError, match=r"another version.*schema 2"):
        folder.read_run()


def test_manifests_without_a_report_are_not_taken_over(folder: RunFolder) -> None:
    commit_unit(folder, "u-00000", "a.tar", stage_three_images(), "origin")
    with pytest.raises(PreflightError, match=r"has manifests but no run\.json"):
        folder.claim(ONE, "generate")


def test_a_dataset_is_no_place_for_a_run(folder: RunFolder) -> None:
    folder.write_json("selection.json", {})
    with pytest.raises(
        PreflightError, match=r"is a dataset written by jobs\.select; choose another"
    ):
        folder.claim(ONE, "generate")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(PreflightError, match="--output"):
        RunFolder.open(str(tmp_path / "file" / "run")).claim(ONE, "generate")


def test_s3_without_permission_is_refused(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    import s3fs

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "readeraccess")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "readersecret")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(PreflightError, match=r"--output s3://.*: .*\(AccessDenied\); correct AWS"):
        RunFolder.open(f"{s3}/run").claim(ONE, "generate")


@pytest.mark.parametrize("job", ["generate", "score"])
def test_a_run_is_read_from_its_report(tmp_path: Path, job: str) -> None:
    folder = RunFolder.open(str(tmp_path), "--input")
    folder.write_json("run.json", make_report(job=job))
    assert folder.read_run() == make_report(job=job)


def test_who_asks_for_it_reads_the_output_of_a_benchmark(tmp_path: Path) -> None:
    folder = RunFolder.open(str(tmp_path), "RUN")
    folder.write_json("run.json", make_report(job="benchmark"))
    assert folder.read_run(takes_benchmark=True)["job"] == "benchmark"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        (
            "selection.json",
            {"input": "s3://bucket/run"},
            "is a dataset written by jobs.select, .* was selected from is s3://bucket/run",
        ),
        ("other.json", {}, r"not the output of a run: it has no run\.json"),
        (
            "run.json",
            make_report(job="c3l", stages={"round-0": {}, "train-0": {}, "round-1": {}}),
            "is the output of jobs.c3l.* name one, such as .*/round-1$",
        ),
        ("run.json", make_report(job="train"), "is the output of jobs.train and holds no records"),
        (
            "run.json",
            make_report(job="benchmark"),
            "is the output of jobs.evaluate benchmark, whose records hold the benchmark's labels",
        ),
        (
            "run.json",
            make_report(identity={"schema": VERSION + 1}),
            f"another version of c3l-ray .schema {VERSION + 1}",
        ),
        ("run.json", [], r"its run\.json is not that of a run$"),
        ("run.json", {"identity": [VERSION]}, r"its run\.json is not that of a run$"),
    ],
    ids=[
        *("a dataset", "a folder", "c3l", "train", "a benchmark", "another schema"),
        *("a list", "another identity"),
    ],
)
def test_a_folder_that_is_no_run_says_what_it_is(
    tmp_path: Path, file: str, content: Any, message: str
) -> None:
    folder = RunFolder.open(str(tmp_path), "--input")
    folder.write_json(file, content)
    with pytest.raises(PreflightError, match=f"--input {tmp_path}: .*{message}"):
        folder.read_run()


def test_json_is_replaced_whole(folder: RunFolder) -> None:
    assert folder.read_json("run.json") is None
    for number in range(3):
        folder.write_json("run.json", {"a": 1, "number": number})
    assert folder.read_json("run.json") == {"a": 1, "number": 2}
    assert [child.name for child in folder.location.list_children()] == ["run.json"]


def test_a_run_folder_reaches_other_processes_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sent = pickle.dumps(RunFolder.open("run"))
    monkeypatch.chdir("/")
    assert pickle.loads(sent).location.path == str(tmp_path / "run")


def test_other_versions_are_mixed_only_on_request(
    folder: RunFolder, caplog: pytest.LogCaptureFixture
) -> None:
    old, new, other = (
        Identity({**content, "versions": {"torch": torch, "vllm": "0.32.0"}})
        for content, torch in ((ONE.content, "2.13"), (ONE.content, "2.14"), (TWO.content, "2.14"))
    )
    folder.claim(old, "generate")
    commit_unit(folder, "u-00000", "a.tar", stage_three_images(), old.origin)
    message = (
        r"run as before \(--mix-versions goes on all the same\).*\n  versions\.torch: '2\.13' th"
    )
    with pytest.raises(PreflightError, match=message) as raised:
        folder.claim(new, "generate")
    assert "vllm" not in str(raised.value)
    assert folder.claim(new, "generate", mix_versions=True) == old
    assert "was begun with other versions: versions.torch: '2.13' there" in caplog.text
    with pytest.raises(PreflightError, match=r"run as before\. They differ in") as raised:
        folder.claim(other, "generate", mix_versions=True)
    assert "turns_per_image" in str(raised.value)


def test_what_is_known_of_a_folder_at_once_is_refused_at_once(folder: RunFolder) -> None:
    folder.check_free("generate")
    folder.claim(ONE, "generate")
    folder.check_free("generate")
    with pytest.raises(PreflightError, match=r"is the output of jobs\.generate; choose another"):
        folder.check_free("train")
    folder.write_json("run.json", make_report(identity={"schema": VERSION - 1}))
    with pytest.raises(PreflightError, match="another version"):
        folder.check_free("generate")


def test_a_folder_that_cannot_be_written_is_refused_before_it_is_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(PreflightError, match=f"{tmp_path}/file"):
        RunFolder.open(str(tmp_path / "file" / "run")).check_free("generate")
    with pytest.raises(PreflightError, match="/proc cannot be written to: "):
        RunFolder.open("/proc/run").check_free("generate")
    RunFolder.open(str(tmp_path / "a" / "b")).check_free("generate")
    assert not (tmp_path / "a").exists()
