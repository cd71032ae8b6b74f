"""The light parts of the pipeline's bench: what is measured in which order, and what is noted."""

import asyncio
import json
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from c3l_ray.config import GenerateConfig
from c3l_ray.inference.engine_protocol import Reply
from c3l_ray.inference.scripted_engine import ScriptedEngine
from c3l_ray.inputs.find import find_shards
from c3l_ray.inputs.layout import Layout
from c3l_ray.inputs.read import index_shard, read_unit
from c3l_ray.model_config import GeneratorModel
from c3l_ray.runs.commit import commit_unit
from c3l_ray.runs.folder import RunFolder
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from c3l_ray.scenes.truth import judge_turn
from tests.bench import pipeline, pipeline_cells, pipeline_peers, token_rate
from tests.bench.observed_generator import ObservedGenerator
from tests.bench.pipeline_cells import choose_arms, list_cells, run_rounds
from tests.bench.pipeline_input import (
    count_cache_gib,
    read_scene_numbers,
    write_input,
    write_requests,
)
from tests.bench.pipeline_work import GENERATED, Setting, make_command
from tests.bench.steady import Measurement, Window


def make_setting(folder: Path, **fields: object) -> Setting:
    values = {
        "model": str(world.LLAVA),
        "on_gpu": False,
        "dtype": "float32",
        "max_len": 512,
        "max_seqs": 32,
        "step_tokens": 2048,
        "max_tokens": 96,
        "temperature": 0.7,
        "cache_gib": 1,
        "turns": 5,
        "input": str(folder / "in"),
        "requests": str(folder / "requests.parquet"),
        "draws_turns": True,
        **fields,
    }
    return Setting(**values)  # type: ignore[arg-type]


def make_measurement(rate: float, **fields: object) -> Measurement:
    values = {
        "images": 10,
        "tokens": 100,
        "prompt_tokens": 1000,
        "wall_s": 60.0,
        "boot_s": 1.0,
        "drain_s": 0.0,
        "steady_rate": rate,
        "step_rate": rate,
        "cpu_ms": 1000 / rate,
        "window": Window(begin=0, end=10 / rate, images=10),
        "window_cpu_s": 10 / rate,
        "generated": 10,
        **fields,
    }
    return Measurement(**values)  # type: ignore[arg-type]


def test_every_other_round_takes_the_arms_in_reverse() -> None:
    (tiny,) = list_cells(quick=True, model=None, num_images=None)
    first = choose_arms(tiny, 0, num_once=2, without=())
    assert first == ("bare", "ours", "ray", "hf", "score", "scored")
    assert choose_arms(tiny, 1, num_once=2, without=()) == first[::-1]
    assert choose_arms(tiny, 1, num_once=1, without=()) == ("ours", "bare")
    assert choose_arms(tiny, 0, num_once=1, without=("hf",)) == (*first[:3], *first[4:])


def test_a_round_that_would_not_end_in_time_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wall_s = {"bare": 100.0, "ours": 200.0, "ray": 900.0, "hf": 900.0}
    monkeypatch.setattr(
        pipeline_cells,
        "run_round",
        lambda cell, folder, setting, arms, *_: {
            (arm, 0): make_measurement(1, wall_s=wall_s[arm]) for arm in arms
        },
    )
    monkeypatch.setattr(pipeline_cells, "prepare", lambda cell, folder: None)
    monkeypatch.setattr(time, "monotonic", lambda: 0.0)
    (tiny,) = list_cells(quick=True, model=None, num_images=None)

    def count_rounds(minutes: float, name: str) -> int:
        folder = tmp_path / name
        folder.mkdir()
        results = run_rounds(
            [tiny],
            folder,
            repeats=3,
            num_once=1,
            without=("score", "scored"),
            batch_sizes=[16],
            minutes=minutes,
        )
        return len(results.rounds["tiny"])

    assert count_rounds(6, "long") == 3  # the peers of the first round do not count again
    assert count_rounds(4, "short") == 1
    assert "round 2 would not end within 4 min" in capsys.readouterr().out


def test_an_arm_that_fails_ends_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(arm: str, *_: object) -> Measurement:
        if arm == "hf":
            raise RuntimeError("no memory")
        return make_measurement(1)

    monkeypatch.setattr(pipeline_cells, "start_other", fail)
    failures: list[str] = []
    (tiny,) = list_cells(quick=True, model=None, num_images=None)
    arms = ("bare", "hf", "ray")
    results = pipeline_cells.run_round(
        tiny, tmp_path, make_setting(tmp_path), arms, [8, 16], failures
    )
    assert [*results] == [("bare", 0), ("ray", 8), ("ray", 16)]
    assert failures == ["tiny hf 8 failed: no memory", "tiny hf 16 failed: no memory"]


def test_there_are_units_enough_for_a_rate_in_each_cell() -> None:
    cells = list_cells(quick=False, model=None, num_images=None)
    assert [cell.name for cell in cells] == ["tiny", "tiny_photos", "100m"]
    assert all(cell.num_images >= pipeline_cells.NUM_UNITS for cell in cells)


def test_the_best_batch_size_is_that_of_the_highest_median() -> None:
    rates = {8: [5, 5, 5], 16: [6, 6, 1], 32: [4, 9, 4]}
    rounds = [
        {("bare", 0): make_measurement(10)}
        | {("hf", size): make_measurement(of_size[number]) for size, of_size in rates.items()}
        for number in range(3)
    ]
    assert pipeline.find_best_sizes(rounds) == {"bare": 0, "hf": 16}


def test_ratios_are_taken_within_a_round() -> None:
    of_round = {
        ("bare", 0): make_measurement(10, step_rate=20.0),
        ("ours", 0): make_measurement(9),
        ("ray", 16): make_measurement(3),
        ("score", 0): make_measurement(5),
        ("scored", 0): make_measurement(4),
    }
    ratios = pipeline.compute_ratios(
        of_round, pipeline.find_best_sizes([of_round]), is_shared=False
    )
    assert ratios["ours_over_bare"] == pytest.approx(0.9)
    assert ratios["ours_over_bare_steps"] == pytest.approx(0.45)
    assert ratios["ours_over_plain_ray"] == pytest.approx(3)
    assert ratios["scored_over_parts"] == pytest.approx(0.8)
    lines = pipeline.list_ratio_lines("100m", [{"ours_over_bare": x} for x in (0.9, 0.8, 1.0)])
    assert lines == ["ratio ours_over_bare_100m 0.900 0.800 1.000"]


def test_our_jobs_take_the_flags_that_the_bench_gives(tmp_path: Path) -> None:
    from jobs.earlier_settings import parse_flags

    setting = make_setting(tmp_path, max_seqs=16)
    for scored in (False, True):
        _, _, job, *words = make_command(tmp_path / "out", setting, scored=scored)
        config = parse_flags(GenerateConfig, words, job)
        assert (config.model.step_tokens, config.model.max_seqs) == (2048, 16)
        assert config.is_scored is scored


def test_a_model_s_cache_holds_its_longest_requests() -> None:
    llava_7b = SimpleNamespace(
        num_hidden_layers=32, num_attention_heads=32, num_key_value_heads=32, hidden_size=4096
    )
    assert count_cache_gib(llava_7b, 4096) == 8
    assert count_cache_gib(llava_7b, 100) == 1


def test_a_random_model_s_turns_are_replaced_by_true_ones_and_noted(tmp_path: Path) -> None:
    write_input(tmp_path / "in", num_images=4, images_per_shard=2, photos=True)
    setting = make_setting(tmp_path)
    assert write_requests(tmp_path / "in", Path(setting.requests)) == 4
    setting.write(tmp_path)
    config = GenerateConfig(
        model=GeneratorModel(name=str(world.LLAVA)),
        input=(setting.input,),
        output=str(tmp_path / "scored"),
    )
    reply = Reply(text="star blue of of", finish_reason="length", num_tokens=4)
    generator = ObservedGenerator(config, ScriptedEngine(lambda request: reply))
    numbers = read_scene_numbers(setting.requests)
    folder = RunFolder.open(str(tmp_path / "ours"))
    for shard in find_shards((setting.input,), Layout()):
        (unit,) = index_shard(shard, Layout())
        table = asyncio.run(generator(read_unit(unit, Layout(), [])))
        rows = table.select(["image_id", "key", "turns", "error"]).to_pylist()
        assert len(rows) == 2
        for row in rows:
            scene = draw_scene(numbers[row["image_id"]])
            assert int(row["key"]) == scene.seed and row["error"] is None
            assert len(row["turns"]) == 5
            for turn in row["turns"]:
                assert turn["status"] == "ok" and turn["num_tokens"] == 4
                assert judge_turn(scene, turn["question"], turn["answer"]) == "true"
        commit_unit(folder, unit.name, unit.source, table, "o")
    moments = [float(line) for line in (tmp_path / GENERATED).read_text().split()]
    assert len(moments) == 1 + 4 and moments == sorted(moments)

    pipeline_peers.run_score(setting, tmp_path)
    events = json.loads((tmp_path / "score.json").read_text())
    assert [images for _, images in events["done"]] == [2, 2]  # a unit each, as our jobs commit


def test_tokens_of_a_reply_end_with_its_first_end() -> None:
    replies = torch.tensor([[5, 6, 2, 2, 2], [5, 2, 0, 0, 0], [5, 6, 7, 8, 9]])
    assert pipeline_peers.count_tokens(replies, [2]) == 3 + 2 + 5
    assert pipeline_peers.count_tokens(replies, []) == 15
    assert pipeline_peers.list_end_ids(SimpleNamespace(eos_token_id=None)) == []
    assert pipeline_peers.list_end_ids(SimpleNamespace(eos_token_id=2)) == [2]


def test_vllm_s_own_bench_is_asked_for_prompts_and_replies_as_long(tmp_path: Path) -> None:
    command = token_rate.make_throughput_command(make_setting(tmp_path), make_measurement(1))
    assert command[:3] == ["vllm", "bench", "throughput"]
    flags = dict(zip(command[3::2], command[4::2], strict=True))
    assert flags["--num-prompts"] == "50"
    assert (flags["--random-input-len"], flags["--random-output-len"]) == ("20", "2")


def test_the_rate_of_vllm_s_own_bench_is_read() -> None:
    printed = "...\nThroughput: 7.57 requests/s, 9000.10 total tokens/s, 1747.25 output tokens/s\n"
    assert token_rate.parse_throughput(printed) == 1747.25
    assert token_rate.parse_throughput("Traceback") is None


def test_a_gpu_is_known_by_the_driver_s_tool() -> None:
    assert token_rate.parse_gpu("NVIDIA H100 80GB HBM3, 81559\n") == (
        "NVIDIA H100 80GB HBM3",
        81559 / 1024,
    )
    assert token_rate.parse_gpu("No devices were found\n") is None
    assert token_rate.parse_gpu("") is None
