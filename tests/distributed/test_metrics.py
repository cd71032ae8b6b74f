"""What a job tells Prometheus, scraped from a real node of Ray."""

import time
import urllib.request
from pathlib import Path

import pytest
import ray
from prometheus_client.parser import text_string_to_metric_families

from c3l_ray.distributed.metrics import EngineMetrics, JobMetrics, count_new, exported_names
from c3l_ray.inference.engine_protocol import EngineLoad
from c3l_ray.runs.commit import Manifest
from c3l_ray.runs.counts import Counts
from c3l_ray.runs.retry import Retry

FIRST = Counts(
    images=10,
    status={"ok": 7, "failed": 3},
    reasons={"undecodable": 2, "no_turn": 1},
    turns=40,
    turn_status={"ok": 30, "unparsable": 10},
    tokens=800,
    seconds={"generate": 6.0, "score": 2.0},
)
HEALED = Counts(
    images=10,
    status={"ok": 8, "failed": 2},
    reasons={"undecodable": 1, "no_turn": 1},
    turns=45,
    turn_status={"ok": 35, "unparsable": 10},
    tokens=900,
    seconds={"generate": 7.0, "score": 2.5},
)


def make_manifest(counts: Counts) -> Manifest:
    return Manifest(unit="u", source="a.tar", origin="o", counts=counts)


def scrape(run: str) -> dict[str, list[tuple[dict[str, str], float]]]:
    """The samples of a run by name, as a node of the cluster serves them now."""
    node = ray.nodes()[0]
    address = f"http://{node['NodeManagerAddress']}:{node['MetricsExportPort']}/metrics"
    with urllib.request.urlopen(address, timeout=30) as response:
        text = response.read().decode()
    samples: dict[str, list[tuple[dict[str, str], float]]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.labels.get("run") == run:
                samples.setdefault(sample.name, []).append((sample.labels, sample.value))
    return samples


@pytest.mark.timeout(300)
def test_every_metric_is_served_under_its_name_with_what_was_counted(tmp_path: Path) -> None:
    run = str(tmp_path)
    manifests = [make_manifest(FIRST), Manifest(unit="v", source="b.tar", origin="o")]
    assert list(JobMetrics(run).count_manifests(manifests, num_images=25)) == manifests
    load = EngineLoad(requests=7, prompt_tokens=100, cached_tokens=80)
    engine = EngineMetrics(run, load)
    engine.export()
    load.prompt_tokens += 50
    engine.export()

    deadline = time.monotonic() + 120  # a process reports every ten seconds
    while not exported_names() <= (samples := scrape(run)).keys():
        assert time.monotonic() < deadline, exported_names() - samples.keys()
        time.sleep(1)

    def read(name: str, tag: str) -> dict[str, float]:
        return {labels.get(tag, ""): value for labels, value in samples[name]}

    assert read("ray_c3l_ray_images_total", "status") == {"ok": 7, "failed": 3}
    assert read("ray_c3l_ray_failed_images_total", "reason") == {"undecodable": 2, "no_turn": 1}
    assert read("ray_c3l_ray_turns_total", "status") == {"ok": 30, "unparsable": 10}
    assert read("ray_c3l_ray_stage_seconds_total", "stage") == {"generate": 6, "score": 2}
    assert read("ray_c3l_ray_unit_seconds_count", "stage") == {"generate": 1, "score": 1}
    for name, value in (
        ("units_total", 2),
        ("generated_tokens_total", 800),
        ("images_left", 15),
        ("engine_requests", 7),
        ("prompt_tokens_total", 150),
        ("cached_prompt_tokens_total", 80),
    ):
        assert [sample for _, sample in samples[f"ray_c3l_ray_{name}"]] == [value], name
    tags = {tag for of_name in samples.values() for labels, _ in of_name for tag in labels}
    assert {"run", "process", "stage", "reason", "status"} <= tags


def test_of_healed_units_what_was_done_again_is_counted() -> None:
    retry = Retry(reasons=frozenset({"undecodable"}), manifests={"u": make_manifest(FIRST)})
    new = count_new(make_manifest(HEALED), retry)
    assert (new.status, new.reasons) == ({"ok": 1, "failed": 1}, {"undecodable": 1})
    assert (new.turn_status, new.tokens) == ({"ok": 5}, 100)
    assert new.seconds == {"generate": 1.0, "score": 0.5}
    assert count_new(make_manifest(HEALED), None) == HEALED
