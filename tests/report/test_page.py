"""The page as text: nothing from data is markup, what was counted is said, and so is what lacks."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from c3l_ray import schema
from c3l_ray.dataset.select import select_turns
from c3l_ray.report import page, thumbnails
from c3l_ray.scenes.world import LLAVA
from c3l_ray.select_config import SelectConfig
from c3l_ray.workflows.report import describe_report, write_report
from tests.examples import EncodeImage
from tests.report.runs import UNUSABLE, make_records, make_turn, write_run

ATTACK = "\"'</script></style><img src=x onerror=alert(1)><script>alert(2)</script>"


class Tags(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def make(*paths: Path, max_turns: int = 60, max_turns_read: int = 1000) -> str:
    names = [str(path) for path in paths]
    written = write_report(names, max_turns=max_turns, max_turns_read=max_turns_read)
    return Path(written).read_text()


def test_what_comes_from_data_is_text(tmp_path: Path) -> None:
    fields = ("kind", "instruction", "question", "answer", "thought")
    texts: dict[str, Any] = dict.fromkeys(fields, ATTACK)
    alternative = {"answer": f"no {ATTACK}", "num_samples": 1, "status": ATTACK}
    turn = make_turn(
        **texts, draft=f"draft {ATTACK}", alternatives=[alternative], token_gains=[0.5]
    )
    names = dict.fromkeys(("image_id", "key", "source", "caption", "meta"), ATTACK)
    records: list[dict[str, Any]] = [
        {**names, "turns": [turn, {**UNUSABLE, "reply": ATTACK, "status": ATTACK}]},
        {**names, "turns": [], "error": f"{ATTACK}: {ATTACK}"},
    ]
    model = {"name": ATTACK, "revision": ATTACK}
    run = write_run(
        tmp_path / "<b>run",
        records,
        config={"model": model, "scorer": model, "clip": model, "input": [ATTACK]},
        identity={"schema": schema.VERSION, "method": ATTACK, "sampling": {ATTACK: ATTACK}},
        unit_notes=[ATTACK],
        versions=[{ATTACK: ATTACK}],
        state=ATTACK,
        finished=None,
    )
    training = tmp_path / "train"
    training.mkdir()
    report = {"job": "train", "notes": [ATTACK, "\ud800"], "verified_reply": ATTACK, "tune": ATTACK}
    (training / "run.json").write_text(json.dumps(report))
    (training / "measurements.json").write_text(json.dumps([{"step": 1, "loss": 1.0}]))
    (run / "dataset").mkdir()
    selection = {"origin": "o", "by": ATTACK, "within": ATTACK, "turns": 1}
    (run / "dataset" / "selection.json").write_text(json.dumps(selection))
    text = write_report_of(run, training)
    parsed = Tags(text)
    assert [tag for tag, _ in parsed.tags].count("script") == 1
    attributes = [attribute for _, attributes in parsed.tags for attribute in attributes.items()]
    assert not [name for name, _ in attributes if name.startswith("on")]
    addresses = [address or "" for name, address in attributes if name in ("src", "href")]
    assert addresses and all(one.startswith(("#", "data:image/webp;")) for one in addresses)
    assert parsed.text.count(ATTACK) > 12 and "<b>run, train" in parsed.text


def write_report_of(*paths: Path) -> str:
    by_selection = [str(path) for path in paths]
    return Path(write_report(by_selection)).read_text()


def test_the_policy_names_the_script_and_nothing_else(tmp_path: Path) -> None:
    text = make(write_run(tmp_path, make_records(3)))
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', text)
    assert "default-src 'none'" in policy and policy.count("script-src 'sha256-") == 1
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
    assert "http" not in text.replace("http-equiv", "").replace("Content", "")


def test_counts_are_those_of_the_whole_run_and_a_sample_is_said(tmp_path: Path) -> None:
    units = [make_records(4, first=10 * number, source=f"{number}.tar") for number in range(5)]
    failed = {"turns": [], "error": "empty: no bytes"}
    run = write_run(tmp_path, *units, [{"turns": [UNUSABLE, UNUSABLE]}, failed])
    text = Tags(make(run, max_turns_read=8)).text
    assert "a sample, 8 of 22 turns, from 2 of 6 files" in text
    assert re.search(r"ok\s*20", text) and re.search(r"failed\s*1", text)
    assert re.search(r"all images\s*22", text) and re.search(r"unparsable\s*2", text)
    assert "These counts do not add up" not in text and "What helps: restore the file." in text
    assert "a sample" not in Tags(make(run)).text


def test_counts_that_do_not_add_up_are_said(tmp_path: Path) -> None:
    run = write_run(tmp_path, make_records(3))
    (manifest,) = (run / "manifests").iterdir()
    content = json.loads(manifest.read_text())
    content["counts"]["turn_status"]["ok"] = 2
    manifest.write_text(json.dumps(content))
    assert "turns by status are 2, not 3" in make(run)
    short = write_run(tmp_path / "short", make_records(3), total_images=4)
    assert "3 images are committed, of 4 found" in make(short)


def test_images_are_small_and_what_is_no_image_is_said(
    tmp_path: Path, encoded: EncodeImage
) -> None:
    large = encoded((1500, 1000), format_="JPEG")
    records = make_records(2, image=large) + make_records(2, first=2, image=None)
    text = make(write_run(tmp_path, records))
    images = [attributes for tag, attributes in Tags(text).tags if tag == "img"]
    assert images and all(str(one["src"]).startswith("data:image/webp;") for one in images)
    sizes = [int(one["width"] or 0) * int(one["height"] or 0) for one in images]
    assert 0.9 * thumbnails.MAX_PIXELS < max(sizes) <= thumbnails.MAX_PIXELS
    assert "the records hold no image" in text


def test_a_page_stays_small_and_says_what_it_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = make_records(30)
    records[0]["turns"][0]["answer"] = "x" * 10_000
    run = write_run(tmp_path, records)
    text = make(run)
    assert "[7,000 characters more]" in text and "left out to keep" not in text
    monkeypatch.setattr(page, "MAX_CARD_CHARACTERS", 40_000)
    smaller = make(run)
    assert "turns are left out to keep the page below 12 MB" in smaller
    assert smaller.count("<article") < text.count("<article")


def test_tokens_are_tinted_where_the_scorer_is_here_and_else_not(tmp_path: Path) -> None:
    fields: dict[str, Any] = {
        "answer": "The circle is red.",
        "token_gains": [0.1, 3.5, -1.0, 0.0, 0.2],
    }
    records = [{"turns": [make_turn(**fields)]}]
    here = write_run(tmp_path / "a", records, config={"scorer": {"name": str(LLAVA)}})
    gone = write_run(tmp_path / "b", records, config={"scorer": {"name": "/gone"}})
    text = make(here)
    assert 'class="tint up" style="--g:1.00" title="+3.50"> circle</span>' in text
    assert 'class="tint down" style="--g:0.33" title="-1.00"' in text
    text = make(gone)
    assert "the tokenizer of /gone is not on this machine" in text and 'title="+3.50"' not in text


def test_a_run_that_goes_on_and_one_that_has_not_begun_have_a_page(tmp_path: Path) -> None:
    at_work = write_run(tmp_path / "a", make_records(3), finished=None, total_images=1200)
    assert "not finished: 3 of 1,200 images" in make(at_work)
    stopped = write_run(
        tmp_path / "stopped",
        state="failed",
        finished=None,
        error="the disk is full",
        commands=[{"command": "python -m jobs.generate --input x", "host": "node-7"}],
    )
    text = make(stopped)
    assert "failed: 0 of ? images" in text and "the disk is full" in text
    assert "python -m jobs.generate --input x (on node-7)" in text
    begun = write_run(tmp_path / "b", finished=None)
    assert "not finished: 0 of ? images" in make(begun)
    (tmp_path / "c3l").mkdir()
    (tmp_path / "c3l" / "run.json").write_text('{"job": "c3l"}')
    assert "No stage of the job has begun" in make(tmp_path / "c3l")


def test_a_training_alone_has_a_page_and_a_dataset_without_its_run_is_said(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text('{"job": "train", "finished": null, "steps": 7}')
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "selection.json").write_text('{"origin": "another"}')
    text = make(tmp_path, tmp_path / "best")
    assert "It has measured nothing yet." in text
    assert "best was selected from a run that is not among these" in text


def test_a_selection_is_told_once_beside_another_run_of_its_origin(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", make_records(12))
    b = write_run(tmp_path / "b", make_records(7, first=12))
    select_turns(SelectConfig(input=str(a), output=str(tmp_path / "best"), top=6, by="visual_ifd"))
    text = make(a, b, tmp_path / "best")
    assert text.count("<h3>best</h3>") == 1 and "kept of its kind" in text
    assert "50.0 %" in text  # of the 12 turns of a, and not of the 7 of b
    assert 'class="threshold"' not in text  # the filled histograms are b's
    assert 'class="threshold"' in make(b, a, tmp_path / "best")


def test_a_job_that_ends_says_why_its_page_could_not_be_written(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", make_records(2))
    assert describe_report([str(run)]) == f"  page     {run / 'report.html'}"
    next((run / "records").iterdir()).unlink()
    line = describe_report([str(run)])
    assert line.startswith("  page     could not be written: C3LError: ") and "\n" not in line


def test_a_run_without_scores_is_shown_as_one(tmp_path: Path) -> None:
    turn = make_turn(draft_scores=None, token_gains=None)
    turn["scores"] = None
    config = {"score": False, "model": {"name": "llava"}, "clip": {"name": "ViT-B-32"}}
    identity = {"schema": schema.VERSION, "scorer": None, "scorer_baseline": None, "clip": None}
    run = write_run(
        tmp_path / "run", make_records(1, turns=[turn]), config=config, identity=identity
    )
    text = Tags(make(run)).text
    assert str(turn["question"]) in text and "ViT-B-32" not in text and "None" not in text
