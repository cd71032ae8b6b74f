"""The jobs as a user starts them: processes, real models, exit statuses, and the summary's sums."""

import json
import os
import shlex
import shutil
import signal
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq
import pytest

from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.runs.commit import read_manifests
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from jobs.demo import read_photographs
from tests.jobs.commands import (
    call_job,
    check_refusal,
    generate_flags,
    read_records,
    read_report,
    run_job,
)
from tests.jobs.interrupted import begin_job, read_units_done


class FinishedRun(NamedTuple):
    """A run, and what it printed and logged."""

    output: Path
    printed: str
    logged: str


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve good scenes, and every kind of bad image, in twelve shards.

    The scenes are the first of each shard of the run that is interrupted, and two more.
    """
    folder = tmp_path_factory.mktemp("mixed")
    for shard in range(10):
        one = folder / "one"
        world.write_scenes(
            one, num_scenes=2 if shard < 2 else 1, scenes_per_shard=2, seed=5 * shard
        )
        (one / "scenes-00000.tar").rename(folder / f"scenes-{shard:05d}.tar")
    one.rmdir()
    photograph = next(content for name, content in read_photographs() if name.endswith("jpg"))
    world.write_shard(
        folder / "bad.tar",
        [
            ("zero.jpg", b""),
            ("text.jpg", b"this is a text file"),
            ("truncated.jpg", photograph[: len(photograph) // 2]),
            ("lonely.txt", b"no image"),
            ("good.png", read_first_png(folder / "scenes-00000.tar")),
        ],
    )
    world.write_shard(folder / "empty.tar", [])
    return folder


def read_first_png(path: Path) -> bytes:
    with tarfile.open(path) as tar:
        member = next(member for member in tar if member.name.endswith("png"))
        return tar.extractfile(member).read()  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def finished(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> FinishedRun:
    """A finished run over the mixed shards."""
    output = tmp_path_factory.mktemp("finished") / "run"
    done = run_job("generate", *generate_flags(mixed, output, "--max-failed-share", "0.3"))
    assert done.returncode == 0, done.stderr
    return FinishedRun(output, done.stdout, done.stderr)


def test_everything_that_went_in_comes_out_and_adds_up(finished: FinishedRun) -> None:
    records, report = read_records(finished.output), read_report(finished.output)
    assert len(records) == report["images"] == 17
    statuses = Counter(record["status"] for record in records)
    assert statuses == report["status"] == {"ok": 13, "failed": 4}
    reasons = Counter(record["error"].split(":")[0] for record in records if record["error"])
    assert reasons == report["reasons"] == {"empty": 1, "undecodable": 2, "no_image": 1}
    turns = [turn for record in records for turn in record["turns"]]
    assert len(turns) == report["turns"] == 13 * 5
    assert Counter(turn["status"] for turn in turns) == report["turn_status"]
    assert sum(turn["num_tokens"] for turn in turns) == report["tokens"]
    assert {record["origin"] for record in records} == {report["origin"]}
    assert set(report["scoring"]) == {"packed"} and report["faults"] == {}
    assert report["versions"] == [report["identity"]["versions"]]
    assert report["finished"] is not None
    assert report["seconds"]["wall"] > report["seconds"]["boot"] > 0
    assert (report["state"], report["total_images"], report["minutes_left"]) == ("finished", 17, 0)
    assert report["images_per_s"] > 17 / report["seconds"]["wall"]
    (command,) = report["commands"]
    assert "-m jobs.generate --input" in command["command"] and command["state"] == "finished"
    assert len({record["image_id"] for record in records}) == 17


def test_every_good_turn_has_every_score(finished: FinishedRun) -> None:
    turns = [turn for record in read_records(finished.output) for turn in record["turns"]]
    for turn in turns:
        if turn["status"] == "ok":
            assert set(turn["scores"]) == set(SCORE_NAMES)
            assert all(value is not None for value in turn["scores"].values())
            gain = turn["scores"]["image_logprob"] - turn["scores"]["text_logprob"]
            assert turn["scores"]["gain"] == pytest.approx(gain, abs=1e-5)
        else:
            assert turn["scores"] is None
    assert Counter(turn["status"] for turn in turns)["ok"] > 50


def test_the_summary_says_what_failed_why_and_where_it_lies(finished: FinishedRun) -> None:
    assert "images   17: ok 13, failed 4" in finished.printed
    assert "undecodable 2" in finished.printed
    assert "bad.tar zero: empty: the image has no bytes" in finished.printed
    assert str(finished.output / "records") in finished.printed
    assert "the generator itself (--scorer.name)" in finished.logged


def test_the_same_command_again_skips_what_is_done_and_counts_all_that_failed(
    finished: FinishedRun, mixed: Path
) -> None:
    files = list((finished.output / "records").iterdir())
    before = {path: path.stat().st_mtime_ns for path in files}
    again = call_job("generate", *generate_flags(mixed, finished.output))
    assert "12 units; 12 of these are done" in again.stderr
    files = list((finished.output / "records").iterdir())
    assert {path: path.stat().st_mtime_ns for path in files} == before
    assert read_report(finished.output)["images"] == 17
    assert again.returncode == 4
    assert "4 of 17 images failed, over the share of 0.05" in again.stderr


def test_another_origin_is_refused_and_nothing_is_touched(
    finished: FinishedRun, mixed: Path
) -> None:
    before = sorted(path.name for path in finished.output.rglob("*"))
    flags = generate_flags(mixed, finished.output, "--turns-per-image", "3")
    refused = call_job("generate", *flags)
    check_refusal(refused, "turns_per_image: 5 there, 3 now")
    assert sorted(path.name for path in finished.output.rglob("*")) == before


def test_a_plan_counts_what_the_run_did_and_runs_a_sample_of_it(
    finished: FinishedRun, mixed: Path, tmp_path: Path
) -> None:
    shutil.copytree(mixed, tmp_path / "in")
    whole = (mixed / "scenes-00000.tar").read_bytes()
    (tmp_path / "in" / "broken.tar").write_bytes(whole[:700])
    flags = ("--json", "--sample", "12", "--max-hours", "1e-4", "--price-per-hour", "2.5")
    done = run_job("plan", *generate_flags(tmp_path / "in", tmp_path / "run", *flags))
    assert done.returncode == 3, done.stderr
    assert "over budget" in done.stderr.splitlines()[-1] and "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()
    plan = json.loads(done.stdout)
    report = read_report(finished.output)
    assert plan["images"] == {"value": 17, "low": 17, "high": 17} and report["images"] == 17
    assert (plan["shards"], plan["damaged_shards"]) == (13, 1)
    assert plan["damage"].startswith("broken.tar at byte")
    assert plan["sampled_images"] == 12 and "damaged_shard" not in plan["sampled_failures"]
    assert plan["turns"]["low"] <= report["turns"] <= plan["turns"]["high"]
    records = (finished.output / "records").iterdir()
    size = sum(path.stat().st_size for path in records)
    assert plan["output_bytes"]["value"] == pytest.approx(size, rel=0.5)
    seconds = plan["seconds"]
    assert seconds["generate"] > 0 and seconds["score"] > 0 and seconds["boot"] > 1
    assert plan["images_per_s"]["low"] < plan["images_per_s"]["value"]
    at_speed_s = 17 / plan["images_per_s"]["value"]
    assert plan["hours"]["value"] * 3600 == pytest.approx(at_speed_s + seconds["boot"])
    assert plan["price"]["value"] == pytest.approx(2.5 * plan["hours"]["value"])
    assert (plan["device"], plan["devices"]) == ("node", 1)


def test_select_makes_a_dataset_of_a_run(finished: FinishedRun, tmp_path: Path) -> None:
    dataset = tmp_path / "dataset"
    flags = ("--input", str(finished.output), "--output", str(dataset), "--top", "0.5")
    done = run_job("select", *flags)
    assert done.returncode == 0, done.stderr
    table = pq.read_table(dataset / "data" / "part-00000.parquet")
    assert f"selected {table.num_rows} of " in done.stdout
    assert all(images[0]["bytes"] for images in table["images"].to_pylist())
    card = (dataset / "README.md").read_text()
    assert "| model | llava, weights " in card and "## Prompts" in card


def test_failed_images_that_were_mended_are_healed_and_the_others_stay(
    finished: FinishedRun, mixed: Path, tmp_path: Path
) -> None:
    shutil.copytree(mixed, tmp_path / "in")
    shutil.copytree(finished.output, tmp_path / "run")
    photograph = next(content for name, content in read_photographs() if name.endswith("jpg"))
    with tarfile.open(tmp_path / "in" / "bad.tar") as tar:
        members = [(member.name, tar.extractfile(member).read()) for member in tar]  # type: ignore[union-attr]
    contents = {**dict(members), "truncated.jpg": photograph}
    world.write_shard(tmp_path / "in" / "bad.tar", contents.items())
    flags = ("--retry-failed", "undecodable", "--max-failed-share", "0.2")
    done = call_job("generate", *generate_flags(tmp_path / "in", tmp_path / "run", *flags))
    assert done.returncode == 0, done.stderr
    assert "1 of 4 failed images are healed" in done.stderr
    before = {record["key"]: record for record in read_records(finished.output)}
    after = {record["key"]: record for record in read_records(tmp_path / "run")}
    assert {*after} == {*before}
    assert [key for key in after if after[key] != before[key]] == ["truncated"]
    assert after["truncated"]["status"] == "ok" and after["truncated"]["image"] == photograph
    report = read_report(tmp_path / "run")
    assert (report["images"], report["state"]) == (17, "finished")
    assert report["status"] == {"ok": 14, "failed": 3}
    assert report["reasons"] == {"empty": 1, "undecodable": 1, "no_image": 1}
    editions = [
        manifest.edition for manifest in read_manifests(RunFolder.open(str(tmp_path / "run")))
    ]
    assert sorted(editions) == [0] * 11 + [1]


def check_scored_later(unscored: list[dict[str, Any]], scored: list[dict[str, Any]]) -> None:
    """Two runs have the same turns, of which those of the second have scores."""
    assert [record["image_id"] for record in scored] == [r["image_id"] for r in unscored]
    for before, after in zip(unscored, scored, strict=True):
        assert (before["status"], before["error"]) == (after["status"], after["error"])
        for turn, scored_turn in zip(before["turns"], after["turns"], strict=True):
            assert turn["scores"] is None and turn["draft_scores"] is None
            if turn["status"] == "ok":
                assert scored_turn["scores"] and scored_turn["draft_scores"]
                assert scored_turn["scores"]["posed_logprob"] is not None
            names = turn.keys() - {"scores", "draft_scores", "alternatives"}
            assert {name: turn[name] for name in names} == {
                name: scored_turn[name] for name in names
            }
            pairs = zip(turn["alternatives"] or [], scored_turn["alternatives"] or [], strict=True)
            for other, scored_other in pairs:
                assert other == {**scored_other, "scores": None}
                assert bool(scored_other["scores"]) == (other["status"] == "ok")


def test_vigc_corrects_its_turns_and_counts_what_that_took(tmp_path: Path) -> None:
    """They are scored later, by a command of its own."""
    world.write_scenes(tmp_path / "in", num_scenes=6, scenes_per_shard=3)
    flags = ("--method", "vigc", "--turns-per-image", "3", "--answers", "2", "--no-score")
    clip = ("--clip.name", str(world.CLIP))
    unclipped = generate_flags(tmp_path / "in", tmp_path / "run", *flags)
    place = unclipped.index(clip[0])
    done = call_job("generate", *unclipped[:place], *unclipped[place + 2 :])
    assert done.returncode == 0, done.stderr
    assert "starting generators: 1" in done.stderr and "starting scorers" not in done.stderr
    (command,) = [line for line in done.stdout.splitlines() if "  next  " in line]
    scoring = shlex.split(command.partition("python -m jobs.score ")[2])
    scored = call_job("score", *scoring, *clip)
    assert scored.returncode == 0, scored.stderr
    check_scored_later(read_records(tmp_path / "run"), read_records(tmp_path / "run-scored"))
    refused = run_job("select", "--input", str(tmp_path / "run"))
    check_refusal(refused, command.split(maxsplit=1)[1])
    report = read_report(tmp_path / "run")
    turns = [turn for record in read_records(tmp_path / "run") for turn in record["turns"]]
    good = [turn for turn in turns if turn["status"] == "ok"]
    assert {turn["kind"] for turn in turns} <= {"dialogue", "detail", "reasoning"}
    assert len(good) > 12 and all(turn["draft"] and turn["answer"] for turn in good)
    corrections = [turn["correction"] for turn in good]
    outcomes = Counter(correction["outcome"] for correction in corrections)
    assert report["correction_outcomes"] == outcomes
    generated = sum(correction["generated_tokens"] for correction in corrections)
    kept = sum(correction["kept_tokens"] for correction in corrections)
    assert report["correction_tokens"] == {"generated": generated, "kept": kept}
    assert 0 < kept <= generated < report["tokens"] == sum(turn["num_tokens"] for turn in turns)
    assert "answers  corrected: complete " in done.stdout
    assert f"; {kept} of {generated} tokens kept" in done.stdout
    assert report["identity"]["correction"]["style"] == "vic"
    samples = [other for turn in good for other in turn["alternatives"]]
    assert {sum(o["num_samples"] for o in turn["alternatives"]) for turn in good} == {2}
    assert all(turn["alternatives"] is None for turn in turns if turn["status"] != "ok")
    assert report["sampled_questions"] == len(good)
    assert report["sampled_answers"] == 2 * len(good)
    assert report["alternative_status"] == Counter(other["status"] for other in samples)
    # They are answers to the question: the model is sure enough of many to write its draft again.
    assert report["alternative_status"]["ok"] > 0.9 * len(samples)
    drafts = sum(turn["draft"] in (o["answer"] for o in turn["alternatives"]) for turn in good)
    assert drafts > len(good) / 3
    assert f"{2 * len(good)} sampled to {len(good)} questions" in done.stdout


def test_a_job_whose_hours_are_over_stops_with_a_status_of_its_own(
    mixed: Path, tmp_path: Path
) -> None:
    flags = generate_flags(mixed, tmp_path / "run", "--max-hours", "0.0001")
    stopped = run_job("generate", *flags)
    assert stopped.returncode == 5, stopped.stderr
    assert stopped.stderr.splitlines()[-1] == (
        "stopped by --max-hours 0.0001; the same command resumes"
    )
    assert "Traceback" not in stopped.stderr


def test_a_stopped_and_killed_run_resumes_and_ends_with_the_same_records(
    finished: FinishedRun, tmp_path: Path
) -> None:
    """With its first unit committed it is stopped by SIGTERM, and then killed; nothing is twice.

    The one that is stopped was to do the first images only, which end within a shard. An image of
    each unit is in the run that nobody interrupted too, with the first half of its turns.
    """
    world.write_scenes(tmp_path / "in", num_scenes=50, scenes_per_shard=5)
    more = ("--turns-per-image", "10")
    output = tmp_path / "run"
    flags = generate_flags(tmp_path / "in", output, *more)
    with begin_job(output, *flags, "--limit", "23") as job:
        job.terminate()
        _, logged = job.communicate(timeout=120)
    assert job.returncode == 143, logged
    stopped = read_units_done(output)
    report = read_report(output)
    assert 0 < len(stopped) <= 5 and report["images"] == sum(
        manifest.counts.images for manifest in read_manifests(RunFolder.open(str(output)))
    )
    assert logged.splitlines()[-1] == (
        f"stopped by SIGTERM; {report['images']} of 23 images are committed in {output}; "
        "the same command resumes"
    )
    assert "Traceback" not in logged and "SIGTERM received" not in logged
    assert (report["state"], report["finished"]) == ("stopped", None)
    with begin_job(output, *flags) as job:
        os.killpg(job.pid, signal.SIGKILL)
    done = read_units_done(output)
    assert stopped < done and len(done) < 11
    killed = read_report(output)
    assert (killed["state"], killed["finished"]) == ("running", None)
    again = run_job("generate", *flags)
    assert again.returncode == 0, again.stderr
    states = [command["state"] for command in read_report(tmp_path / "run")["commands"]]
    assert states == ["stopped", "running", "finished"]
    assert f"11 units; {len(done)} of these are done" in again.stderr
    records = read_records(tmp_path / "run")
    assert len({record["image_id"] for record in records}) == len(records) == 50
    assert read_report(tmp_path / "run")["images"] == 50
    texts, expected = (
        {
            (record["source"], record["image_id"], place): turn["reply"] or turn["answer"]
            for record in of_run
            for place, turn in enumerate(record["turns"])
        }
        for of_run in (records, read_records(finished.output))
    )
    common = texts.keys() & expected.keys()
    assert len({source for source, _, _ in common}) == 10 and len(common) == 12 * 5
    assert {place: texts[place] for place in common} == {place: expected[place] for place in common}
