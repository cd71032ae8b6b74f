"""The jobs as a user starts them: processes, real models, exit statuses, and the summary's sums."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from c3l_ray.runs.folder import Output
from c3l_ray.scenes import world
from c3l_ray.schema import RECORDS, SCORE_NAMES

ROOT = Path(__file__).parent.parent.parent


def command(job: str, *flags: str) -> list[str]:
    return [sys.executable, "-m", f"jobs.{job}", *flags]


def generate_flags(input_: Path | str, output: Path | str, *more: str) -> list[str]:
    return [
        *("--input", str(input_), "--output", str(output)),
        *("--model.name", str(world.LLAVA), "--model.dtype", "float32"),
        *("--model.max-len", "256", "--model.max-seqs", "32", "--sampling.max-tokens", "96"),
        *("--clip.name", str(world.CLIP)),
        *more,
    ]


def run(job: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(job, *flags), cwd=ROOT, capture_output=True, text=True, timeout=550, check=False
    )


def generate(input_: Path, output: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return run("generate", *generate_flags(input_, output, *more))


def records(output: Path) -> list[dict[str, Any]]:
    files = sorted((output / "records").glob("*.parquet"))
    table = pa.concat_tables([pq.read_table(file) for file in files])
    assert table.schema.equals(RECORDS)
    return list(table.to_pylist())


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good scenes, and every kind of bad image, in three shards."""
    folder = tmp_path_factory.mktemp("mixed")
    world.write_scenes(folder, num_scenes=12, scenes_per_shard=12)
    good = [member for member in _members(folder / "scenes-00000.tar") if member[0].endswith("png")]
    photograph = next(content for name, content in _jpegs())
    world.write_shard(
        folder / "bad.tar",
        [
            ("zero.jpg", b""),
            ("text.jpg", b"this is a text file"),
            ("truncated.jpg", photograph[: len(photograph) // 2]),
            ("lonely.txt", b"no image"),
            ("good.png", good[0][1]),
        ],
    )
    world.write_shard(folder / "empty.tar", [])
    return folder


def _members(path: Path) -> list[tuple[str, bytes]]:
    import tarfile

    with tarfile.open(path) as tar:
        return [(m.name, tar.extractfile(m).read()) for m in tar]  # type: ignore[union-attr]


def _jpegs() -> list[tuple[str, bytes]]:
    from jobs.demo import photographs

    return [photograph for photograph in photographs() if photograph[0].endswith("jpg")]


@pytest.fixture(scope="module")
def finished(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished run over the mixed shards, and what it printed."""
    output = tmp_path_factory.mktemp("finished") / "run"
    done = generate(mixed, output)
    assert done.returncode == 0, done.stderr
    return output, done.stdout


def test_everything_that_went_in_comes_out_and_adds_up(finished: tuple[Path, str]) -> None:
    output, _ = finished
    rows = records(output)
    run_json = json.loads((output / "run.json").read_text())
    assert len(rows) == run_json["images"] == 17
    assert Counter(row["status"] for row in rows) == run_json["status"] == {"ok": 13, "failed": 4}
    reasons = Counter(row["error"].split(":")[0] for row in rows if row["error"])
    assert reasons == run_json["reasons"] == {"empty": 1, "undecodable": 2, "no_image": 1}
    turns = [turn for row in rows for turn in row["turns"]]
    assert len(turns) == run_json["turns"] == 13 * 5
    assert Counter(turn["status"] for turn in turns) == run_json["turn_status"]
    assert sum(turn["num_tokens"] for turn in turns) == run_json["tokens"]
    assert {row["origin"] for row in rows} == {run_json["origin"]}
    assert run_json["finished"] is not None and run_json["seconds"]["wall"] > 0
    assert len({row["image_id"] for row in rows}) == 17


def test_every_good_turn_has_every_score(finished: tuple[Path, str]) -> None:
    output, _ = finished
    turns = [turn for row in records(output) for turn in row["turns"]]
    for turn in turns:
        if turn["status"] == "ok":
            assert set(turn["scores"]) == set(SCORE_NAMES)
            assert all(value is not None for value in turn["scores"].values())
            gain = turn["scores"]["image_logprob"] - turn["scores"]["text_logprob"]
            assert turn["scores"]["gain"] == pytest.approx(gain, abs=1e-5)
        else:
            assert turn["scores"] is None
    assert Counter(turn["status"] for turn in turns)["ok"] > 50


def test_the_summary_says_what_failed_why_and_where_it_lies(finished: tuple[Path, str]) -> None:
    output, printed = finished
    assert "images   17: ok 13, failed 4" in printed
    assert "undecodable 2" in printed
    assert "bad.tar zero: empty: the image has no bytes" in printed
    assert str(output / "records") in printed
    assert "the generator itself (--scorer.name)" in printed


def test_the_same_command_again_skips_what_is_done(finished: tuple[Path, str], mixed: Path) -> None:
    output, _ = finished
    before = {path: path.stat().st_mtime_ns for path in (output / "records").iterdir()}
    again = generate(mixed, output)
    assert again.returncode == 0, again.stderr
    assert "3 units; 3 of these are done" in again.stdout
    assert {path: path.stat().st_mtime_ns for path in (output / "records").iterdir()} == before
    assert json.loads((output / "run.json").read_text())["images"] == 17


def test_more_failures_than_allowed_end_with_status_4(
    finished: tuple[Path, str], mixed: Path
) -> None:
    output, _ = finished
    strict = generate(mixed, output, "--max-failed-share", "0.1")
    assert strict.returncode == 4
    assert "4 of 17 images failed" in strict.stderr


def test_another_origin_is_refused_and_nothing_is_touched(
    finished: tuple[Path, str], mixed: Path
) -> None:
    output, _ = finished
    before = sorted(path.name for path in output.rglob("*"))
    refused = generate(mixed, output, "--turns", "3")
    assert refused.returncode == 2
    assert "turns: 5 there, 3 now" in refused.stderr and "Traceback" not in refused.stderr
    assert sorted(path.name for path in output.rglob("*")) == before


def test_select_makes_a_dataset_of_a_run(finished: tuple[Path, str], tmp_path: Path) -> None:
    output, _ = finished
    dataset = tmp_path / "dataset"
    done = run("select", "--input", str(output), "--output", str(dataset), "--top", "0.5")
    assert done.returncode == 0, done.stderr
    samples = json.loads((dataset / "llava.json").read_text())
    assert f"selected {len(samples)} of " in done.stdout
    assert all((dataset / sample["image"]).is_file() for sample in samples)


def test_vigc_corrects_its_turns_and_counts_what_that_took(tmp_path: Path) -> None:
    world.write_scenes(tmp_path / "in", num_scenes=6, scenes_per_shard=3)
    done = generate(tmp_path / "in", tmp_path / "run", "--method", "vigc", "--turns", "3")
    assert done.returncode == 0, done.stderr
    rows = records(tmp_path / "run")
    run_json = json.loads((tmp_path / "run" / "run.json").read_text())
    turns = [turn for row in rows for turn in row["turns"]]
    good = [turn for turn in turns if turn["status"] == "ok"]
    assert {turn["kind"] for turn in turns} <= {"dialogue", "detail", "reasoning"}
    assert len(good) > 12 and all(turn["draft"] and turn["answer"] for turn in good)
    assert all(turn["scores"] and turn["draft_scores"] for turn in good)
    taken = [turn["correction"] for turn in good]
    assert run_json["corrections"] == Counter(correction["ended"] for correction in taken)
    generated = sum(correction["tokens"] for correction in taken)
    kept = sum(correction["kept_tokens"] for correction in taken)
    assert run_json["correction_tokens"] == {"generated": generated, "kept": kept}
    assert 0 < kept <= generated < run_json["tokens"] == sum(turn["num_tokens"] for turn in turns)
    assert "answers  corrected: complete " in done.stdout
    assert f"; {kept} of {generated} tokens kept" in done.stdout
    assert run_json["facts"]["correction"]["style"] == "vic"


def test_a_killed_run_goes_on_to_the_same_records(tmp_path: Path) -> None:
    """Killed with its first unit committed; the same command finishes, and nothing is twice."""
    world.write_scenes(tmp_path / "in", num_scenes=50, scenes_per_shard=5)
    flags = generate_flags(tmp_path / "in", tmp_path / "run", "--turns", "10")
    with subprocess.Popen(
        command("generate", *flags),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as job:
        deadline = time.monotonic() + 240
        while not list((tmp_path / "run" / "manifests").glob("*.json")):
            assert job.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        os.killpg(job.pid, signal.SIGKILL)
    done = {manifest.unit for manifest in Output(str(tmp_path / "run")).manifests()}
    assert 0 < len(done) < 10
    assert json.loads((tmp_path / "run" / "run.json").read_text())["finished"] is None
    again = run("generate", *flags)
    assert again.returncode == 0, again.stderr
    assert f"10 units; {len(done)} of these are done" in again.stdout
    rows = records(tmp_path / "run")
    assert len({row["image_id"] for row in rows}) == len(rows) == 50
    assert json.loads((tmp_path / "run" / "run.json").read_text())["images"] == 50
    whole = run("generate", *generate_flags(tmp_path / "in", tmp_path / "whole", "--turns", "10"))
    assert whole.returncode == 0, whole.stderr
    texts = [
        {
            (row["image_id"], i): turn["reply"] or turn["answer"]
            for row in rows_
            for i, turn in enumerate(row["turns"])
        }
        for rows_ in (rows, records(tmp_path / "whole"))
    ]
    assert texts[0] == texts[1]


Refusal = tuple[Callable[[Path], list[str]], str]
REFUSALS: dict[str, Refusal] = {
    "no flags": (lambda _: [], "required"),
    "an unknown flag": (
        lambda tmp: [*generate_flags(tmp, tmp / "run"), "--turnz", "3"],
        "turnz",
    ),
    "a value of a wrong type": (
        lambda tmp: generate_flags(tmp, tmp / "run", "--turns", "many"),
        "--turns",
    ),
    "a value out of range": (
        lambda tmp: generate_flags(tmp, tmp / "run", "--turns", "0"),
        "--turns 0: must be at least 1",
    ),
    "an input that is not there": (
        lambda tmp: generate_flags(tmp / "absent", tmp / "run"),
        "absent: does not exist",
    ),
    "an empty input": (lambda tmp: generate_flags(tmp, tmp / "run"), "holds no .tar"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_bad_flags_are_refused_with_status_2_and_no_trace(case: str, tmp_path: Path) -> None:
    flags, message = REFUSALS[case]
    refused = run("generate", *flags(tmp_path))
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()


def test_a_model_that_is_none_is_refused(mixed: Path, tmp_path: Path) -> None:
    refused = generate(mixed, tmp_path / "run", "--model.name", str(tmp_path))
    assert refused.returncode == 2
    assert f"--model.name {tmp_path}: not a model" in refused.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("job", ["generate", "score", "select"])
def test_help_teaches(job: str) -> None:
    help_ = run(job, "--help")
    assert help_.returncode == 0
    assert f"python -m jobs.{job}" in help_.stdout
    assert "(default: " in help_.stdout
