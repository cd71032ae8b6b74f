"""Data made elsewhere through the job as a user starts it: LLaVA JSON in, scores, a selection."""

import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from c3l_ray.images import decode_image
from c3l_ray.methods.scores import SCORE_NAMES
from c3l_ray.runs import commit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.storage import Location
from jobs.demo import read_photographs
from tests.jobs.commands import (
    call_job,
    check_refusal,
    read_records,
    read_report,
    run_job,
    score_flags,
)

PHOTOGRAPHS = ("chelsea.png", "coffee.png", "china.jpg")
SAMPLES: list[dict[str, Any]] = [
    {
        "id": "000000033471",
        "image": "coco/train2017/chelsea.png",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is at the top left?"},
            {"from": "gpt", "value": "a red circle"},
            {"from": "human", "value": "What colour is the circle?"},
            {"from": "gpt", "value": "The circle is red."},
            {"from": "human", "value": "Is there a blue star?"},
            {"from": "gpt", "value": "No, there is no blue star."},
        ],
    },
    {
        "id": 7,
        "image": "gqa/images/coffee.png",
        "conversations": [
            {"from": "human", "value": "In a word, how many things are there?\n<image>"},
            {"from": "gpt", "value": "three"},
            {"from": "gpt", "value": "or four"},
            {"from": "human", "value": "Is that so?"},
            {"from": "gpt", "value": "Yes."},
        ],
    },
    {
        "id": "text_1",
        "conversations": [
            {"from": "human", "value": "Write a haiku."},
            {"from": "gpt", "value": "No."},
        ],
    },
    {
        "id": "ocr_1",
        "image": "ocr_vqa/images/gone.jpg",
        "conversations": [
            {"from": "human", "value": "<image>\nWho wrote it?"},
            {"from": "gpt", "value": "Nobody"},
        ],
    },
    {
        "id": "odd_1",
        "image": "vg/VG_100K/china.jpg",
        "model": "gpt-4",
        "conversations": [
            {"from": "human", "value": "<image>\nWhat is this?"},
            {"from": "gpt", "value": "It ends </s> here."},
        ],
    },
]


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON as LLaVA-665K is one: many folders, text only, odd and missing ones."""
    folder = tmp_path_factory.mktemp("llava")
    content = dict(read_photographs())
    for sample in SAMPLES:
        path = folder / "data" / sample.get("image", "text")
        if path.name in PHOTOGRAPHS:
            path.parent.mkdir(parents=True)
            path.write_bytes(content[path.name])
    (folder / "mix.json").write_text(json.dumps(SAMPLES, indent=2))
    return folder


def mix_flags(mix: Path, *more: str) -> list[str]:
    image_root = ("--layout.image-root", str(mix / "data"))
    return score_flags(mix / "mix.json", mix / "run", *image_root, *more)


@pytest.fixture(scope="module")
def scored(mix: Path) -> subprocess.CompletedProcess[str]:
    done = run_job("score", *mix_flags(mix, "--max-failed-share", "0.4"))
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_is_lost_and_everything_is_counted(
    mix: Path, scored: subprocess.CompletedProcess[str]
) -> None:
    records = read_records(mix / "run")
    assert [json.loads(record["meta"]) for record in records] == SAMPLES
    assert [record["key"] for record in records] == [str(sample["id"]) for sample in SAMPLES]
    assert [record["status"] for record in records] == [
        "ok",
        "ok",
        "text_only",
        "failed",
        "failed",
    ]
    report = read_report(mix / "run")
    assert report["status"] == {"ok": 2, "text_only": 1, "failed": 2}
    assert report["reasons"] == {"unreadable": 1, "no_turn": 1}
    assert report["turn_status"] == {
        "ok": 6,
        "missing_question": 1,
        "broken_history": 1,
        "special_tokens": 1,
    }
    assert report["turns"] == 9 and report["tokens"] == 0
    assert report["identity"]["layout"]["history"] == "auto"
    assert "images   5: " in scored.stdout and "  tokens   " not in scored.stdout
    assert "odd_1: no_turn: special_tokens" in scored.stdout


@pytest.mark.usefixtures("scored")
def test_every_usable_turn_of_a_good_image_has_every_score(mix: Path) -> None:
    records = read_records(mix / "run")
    for record in records:
        for turn in record["turns"]:
            if record["status"] == "ok" and turn["status"] == "ok":
                missing = {name for name in SCORE_NAMES if turn["scores"][name] is None}
                assert missing == {"posed_logprob"}  # nothing asked for it
            else:
                assert turn["scores"] is None
    assert [turn["kind"] for turn in records[0]["turns"]] == ["given", "follow_up", "follow_up"]
    assert records[0]["turns"][0]["question"] == "What is at the top left?"
    assert records[1]["turns"][0]["question"] == "In a word, how many things are there?"


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_answer_is_scored_given_the_turns_before_it(mix: Path, place: int) -> None:
    """One forward pass of the whole conversation, rendered by the model's own chat template."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(world.LLAVA)
    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA, dtype=torch.float32).eval()
    record = read_records(mix / "run")[0]
    answer = record["turns"][place]["answer"]
    roles = {"human": "user", "gpt": "assistant"}
    for score, with_image in (("image_logprob", True), ("text_logprob", False)):
        messages: list[dict[str, Any]] = [
            {
                "role": roles[message["from"]],
                "content": [{"type": "text", "text": message["value"].replace("<image>\n", "")}],
            }
            for message in SAMPLES[0]["conversations"][: 2 * place + 1]
        ]
        if with_image:
            messages[0]["content"].insert(0, {"type": "image"})
        prompt = processor.apply_chat_template(messages, add_generation_prompt=True)
        image = {"images": [decode_image(record["image"], 10**7)]} if with_image else {}
        prompt_inputs, inputs = (
            processor(text=text, **image, return_tensors="pt")
            for text in (prompt, f"{prompt} {answer}")
        )
        first = prompt_inputs["input_ids"].shape[1]
        with torch.inference_mode():
            logprobs_TV = model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0, first:]
        expected = logprobs_TV[first - 1 : -1].gather(-1, ids.unsqueeze(-1)).mean().item()
        assert record["turns"][place]["scores"][score] == pytest.approx(expected, abs=1e-4)


@pytest.mark.usefixtures("scored")
def test_scored_turns_are_selected_and_exported(mix: Path, tmp_path: Path) -> None:
    for group, numbers in (("image", [6, 2]), ("turn", [2, 2, 2, 2])):
        dataset = tmp_path / group
        folders = ("--input", str(mix / "run"), "--output", str(dataset))
        flags = ("--group", group, "--llava", "images")
        done = run_job("select", *folders, "--top", "1000", "--no-require-gain", *flags)
        assert done.returncode == 0, done.stderr
        samples = json.loads((dataset / "llava.json").read_text())
        assert [len(sample["conversations"]) for sample in samples] == numbers
        assert all((dataset / sample["image"]).is_file() for sample in samples)
        assert len({sample["id"] for sample in samples}) == len(samples)
        if group == "image":
            assert samples[0]["conversations"] == SAMPLES[0]["conversations"]
        else:
            for sample in samples:
                assert sample["conversations"][0]["value"].startswith("<image>\n")


@pytest.mark.usefixtures("scored")
def test_the_same_command_again_skips_what_is_done(mix: Path) -> None:
    again = call_job("score", *mix_flags(mix))
    assert again.returncode == 4, again.stderr
    assert "1 units; 1 of these are done" in again.stderr
    assert "2 of 5 images failed" in again.stderr
    refused = call_job("score", *mix_flags(mix, "--layout.history", "no"))
    assert refused.returncode == 2
    assert "layout.history: 'auto' there, 'no' now" in refused.stderr


@pytest.mark.usefixtures("scored")
def test_records_are_scored_anew_from_s3_to_s3(mix: Path, s3: str) -> None:
    location = Location.connect(s3)
    location.fs.put(f"{mix / 'run'}/", f"{location.path}/run/", recursive=True)
    more = ("--scorer.baseline", "grey", "--max-failed-share", "0.4")
    flags = score_flags(f"{s3}/run", f"{s3}/anew", *more)
    done = call_job("score", *flags)
    assert done.returncode == 0, done.stderr
    assert "images   5: " in done.stdout
    anew = RunFolder.open(f"{s3}/anew")
    written = [anew.location.fs.cat_file(path) for path in anew.location.fs.find(f"{s3}/anew")]
    for text in (done.stdout.encode(), done.stderr.encode(), *written):
        assert b"writersecret" not in text and b"writeraccess" not in text
    names = {child.name for child in anew.location.list_children()}  # none is of the probe
    assert names - {"joins"} == {"run.json", "records", "manifests", "shards", "progress"}
    records = [
        record
        for manifest in commit.read_manifests(anew)
        for record in commit.read_records(anew, manifest).to_pylist()
    ]
    for record, earlier in zip(records, read_records(mix / "run"), strict=True):
        kept = ("image_id", "key", "source", "image", "meta", "status")
        assert [record[name] for name in kept] == [earlier[name] for name in kept]
        for turn, earlier_turn in zip(record["turns"], earlier["turns"], strict=True):
            assert (turn["kind"], turn["status"]) == (earlier_turn["kind"], earlier_turn["status"])
            if turn["scores"] is not None:
                scores, earlier_scores = turn["scores"], earlier_turn["scores"]
                image_logprob = earlier_scores["image_logprob"]
                assert scores["image_logprob"] == pytest.approx(image_logprob, abs=1e-4)
                text_logprob = earlier_scores["text_logprob"]
                assert scores["text_logprob"] != pytest.approx(text_logprob, abs=1e-3)


MakeFlags = Callable[[Path], list[str]]
REFUSALS: dict[str, tuple[MakeFlags, str]] = {
    "no scorer": (lambda _: ["--input", "x", "--output", "y"], "--scorer.name"),
    "a scorer that is none": (
        lambda path: score_flags(path / "turns.parquet", path / "run", "--scorer.name", str(path)),
        "not a model",
    ),
    "images without turns": (
        lambda path: score_flags(path / "photographs", path / "run"),
        "a folder of images holds no turns; this job reads LLaVA .json and Parquet",
    ),
    "images that are elsewhere": (
        lambda path: score_flags(path / "elsewhere.json", path / "run"),
        "--layout.image-root names the folder",
    ),
    "no column of turns": (
        lambda path: score_flags(path / "images.parquet", path / "run"),
        "no turns; name their column with --layout.turns",
    ),
    "a wrong history": (
        lambda path: score_flags(path / "turns.parquet", path / "run", "--layout.history", "maybe"),
        "--layout.history",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_an_unusable_input_or_scorer_is_refused_with_status_2_and_no_trace(
    case: str, tmp_path: Path
) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "1.png").write_bytes(b"x")
    (tmp_path / "elsewhere.json").write_text(json.dumps(SAMPLES))
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "images.parquet")
    pq.write_table(
        pa.table({"image": [b"x"], "question": ["Q"], "answer": ["A"]}), tmp_path / "turns.parquet"
    )
    make_flags, message = REFUSALS[case]
    check_refusal(run_job("score", *make_flags(tmp_path)), message)
    assert not (tmp_path / "run").exists()
