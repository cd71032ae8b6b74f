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

from c3l_ray import storage
from c3l_ray.runs.folder import Output
from c3l_ray.images import decode
from c3l_ray.scenes import world
from c3l_ray.schema import SCORE_NAMES
from jobs.demo import photographs
from tests.jobs.test_generate import records, run

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


def score_flags(input_: Path | str, output: Path | str, *more: str) -> list[str]:
    return [
        *("--input", str(input_), "--output", str(output)),
        *("--scorer.name", str(world.LLAVA), "--scorer.dtype", "float32"),
        *("--clip.name", str(world.CLIP)),
        *more,
    ]


@pytest.fixture(scope="module")
def mix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A JSON as LLaVA-665K is one: many folders, text only, odd and missing ones."""
    folder = tmp_path_factory.mktemp("llava")
    content = dict(photographs())
    for sample in SAMPLES:
        path = folder / "data" / sample.get("image", "text")
        if path.name in PHOTOGRAPHS:
            path.parent.mkdir(parents=True)
            path.write_bytes(content[path.name])
    (folder / "mix.json").write_text(json.dumps(SAMPLES, indent=2))
    return folder


def flags(mix: Path, *more: str) -> list[str]:
    roots = ("--layout.image-root", str(mix / "data"))
    return score_flags(mix / "mix.json", mix / "run", *roots, *more)


@pytest.fixture(scope="module")
def scored(mix: Path) -> subprocess.CompletedProcess[str]:
    done = run("score", *flags(mix))
    assert done.returncode == 0, done.stderr
    return done


def test_nothing_is_lost_and_all_is_counted(
    mix: Path, scored: subprocess.CompletedProcess[str]
) -> None:
    rows = records(mix / "run")
    assert [json.loads(row["meta"]) for row in rows] == SAMPLES
    assert [row["key"] for row in rows] == [str(sample["id"]) for sample in SAMPLES]
    assert [row["status"] for row in rows] == ["ok", "ok", "text_only", "failed", "failed"]
    run_json = json.loads((mix / "run" / "run.json").read_text())
    assert run_json["status"] == {"ok": 2, "text_only": 1, "failed": 2}
    assert run_json["reasons"] == {"unreadable": 1, "no_turn": 1}
    assert run_json["turn_status"] == {"ok": 6, "unasked": 1, "stranded": 1, "refused": 1}
    assert run_json["turns"] == 9 and run_json["tokens"] == 0
    assert run_json["facts"]["layout"]["history"] == "auto"
    assert "images   5: " in scored.stdout and "tokens" not in scored.stdout
    assert "odd_1: no_turn: refused" in scored.stdout


@pytest.mark.usefixtures("scored")
def test_every_usable_turn_of_a_good_image_has_every_score(mix: Path) -> None:
    rows = records(mix / "run")
    for row in rows:
        for turn in row["turns"]:
            if row["status"] == "ok" and turn["status"] == "ok":
                assert all(turn["scores"][name] is not None for name in SCORE_NAMES)
            else:
                assert turn["scores"] is None
    assert [turn["kind"] for turn in rows[0]["turns"]] == ["given", "follow_up", "follow_up"]
    assert rows[0]["turns"][0]["question"] == "What is at the top left?"
    assert rows[1]["turns"][0]["question"] == "In a word, how many things are there?"


@pytest.mark.usefixtures("scored")
@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_answer_is_scored_given_the_turns_before_it(mix: Path, place: int) -> None:
    """One forward pass of the whole conversation, rendered by the model's own chat template."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(world.LLAVA)
    model = AutoModelForImageTextToText.from_pretrained(world.LLAVA, dtype=torch.float32).eval()
    row = records(mix / "run")[0]
    answer = row["turns"][place]["answer"]
    roles = {"human": "user", "gpt": "assistant"}
    for column, shown in (("image_logprob", True), ("text_logprob", False)):
        said = [
            {
                "role": roles[message["from"]],
                "content": [{"type": "text", "text": message["value"].replace("<image>\n", "")}],
            }
            for message in SAMPLES[0]["conversations"][: 2 * place + 1]
        ]
        if shown:
            said[0]["content"].insert(0, {"type": "image"})
        prompt = processor.apply_chat_template(said, add_generation_prompt=True)
        image = {"images": [decode(row["image"], 10**7)]} if shown else {}
        num_prompt, inputs = (
            processor(text=text, **image, return_tensors="pt")
            for text in (prompt, f"{prompt} {answer}")
        )
        first = num_prompt["input_ids"].shape[1]
        with torch.inference_mode():
            logprobs_TV = model(**inputs).logits[0].log_softmax(-1)
        ids = inputs["input_ids"][0, first:]
        expected = logprobs_TV[first - 1 : -1].gather(-1, ids.unsqueeze(-1)).mean().item()
        assert row["turns"][place]["scores"][column] == pytest.approx(expected, abs=1e-4)


@pytest.mark.usefixtures("scored")
def test_what_was_scored_is_selected_and_exported(mix: Path, tmp_path: Path) -> None:
    for group, numbers in (("image", [6, 2]), ("turn", [2, 2, 2, 2])):
        dataset = tmp_path / group
        where = ("--input", str(mix / "run"), "--output", str(dataset))
        done = run("select", *where, "--top", "1", "--group", group)
        assert done.returncode == 0, done.stderr
        samples = json.loads((dataset / "llava.json").read_text())
        assert [len(sample["conversations"]) for sample in samples] == numbers
        assert all((dataset / sample["image"]).is_file() for sample in samples)
        assert len({sample["id"] for sample in samples}) == len(samples)
        if group == "image":
            assert samples[0]["conversations"] == SAMPLES[0]["conversations"]
        else:
            assert all(s["conversations"][0]["value"].startswith("<image>\n") for s in samples)


@pytest.mark.usefixtures("scored")
def test_the_same_command_again_skips_what_is_done(mix: Path) -> None:
    again = run("score", *flags(mix, "--max-failed-share", "0.3"))
    assert again.returncode == 4, again.stderr
    assert "1 units; 1 of these are done" in again.stdout
    assert "2 of 5 images failed" in again.stderr
    other = run("score", *flags(mix, "--layout.history", "no"))
    assert other.returncode == 2
    assert "'history': 'auto'" in other.stderr and "'history': 'no'" in other.stderr


@pytest.mark.usefixtures("scored")
def test_records_are_scored_anew_from_s3_to_s3(mix: Path, s3: str) -> None:
    fs, root = storage.connect("--input", s3)
    fs.put(f"{mix / 'run'}/", f"{root}/run/", recursive=True)
    done = run("score", *score_flags(f"{s3}/run", f"{s3}/anew", "--scorer.without", "grey"))
    assert done.returncode == 0, done.stderr
    assert "images   5: " in done.stdout
    anew = Output(f"{s3}/anew")
    rows = [row for each in anew.manifests() for row in anew.records(each).to_pylist()]
    for row, before in zip(rows, records(mix / "run"), strict=True):
        same = ("image_id", "key", "source", "image", "meta", "status")
        assert [row[name] for name in same] == [before[name] for name in same]
        for turn, earlier in zip(row["turns"], before["turns"], strict=True):
            assert (turn["kind"], turn["status"]) == (earlier["kind"], earlier["status"])
            if turn["scores"] is not None:
                found, was = turn["scores"], earlier["scores"]
                assert found["image_logprob"] == pytest.approx(was["image_logprob"], abs=1e-4)
                assert found["text_logprob"] != pytest.approx(was["text_logprob"], abs=1e-3)


Refusal = tuple[Callable[[Path], list[str]], str]
REFUSALS: dict[str, Refusal] = {
    "no scorer": (lambda tmp: ["--input", "x", "--output", "y"], "--scorer.name"),
    "a scorer that is none": (
        lambda tmp: score_flags(tmp / "turns.parquet", tmp / "run", "--scorer.name", str(tmp)),
        "not a model",
    ),
    "images without turns": (
        lambda tmp: score_flags(tmp / "photographs", tmp / "run"),
        "a folder of images holds no turns; this job reads LLaVA .json and Parquet",
    ),
    "images that are elsewhere": (
        lambda tmp: score_flags(tmp / "elsewhere.json", tmp / "run"),
        "--layout.image-root names the folder",
    ),
    "no column of turns": (
        lambda tmp: score_flags(tmp / "images.parquet", tmp / "run"),
        "no turns; name their column with --layout.turns",
    ),
    "a wrong history": (
        lambda tmp: score_flags(tmp / "turns.parquet", tmp / "run", "--layout.history", "maybe"),
        "--layout.history",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_what_cannot_be_scored_is_refused_with_status_2_and_no_trace(
    case: str, tmp_path: Path
) -> None:
    (tmp_path / "photographs").mkdir()
    (tmp_path / "photographs" / "1.png").write_bytes(b"x")
    (tmp_path / "elsewhere.json").write_text(json.dumps(SAMPLES))
    pq.write_table(pa.table({"image": [b"x"]}), tmp_path / "images.parquet")
    pq.write_table(
        pa.table({"image": [b"x"], "question": ["Q"], "answer": ["A"]}), tmp_path / "turns.parquet"
    )
    make, message = REFUSALS[case]
    refused = run("score", *make(tmp_path))
    assert refused.returncode == 2, refused.stderr
    assert message in refused.stdout + refused.stderr
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "run").exists()
