"""What is made ahead: the next batch while one is computed, and no more."""

import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from c3l_ray.inference.ahead import make_ahead
from c3l_ray.inference.model_inputs import ModelInputs
from c3l_ray.inference.packed_scorer import PackedScorer
from c3l_ray.inference.scoring_model import ScoringModel
from c3l_ray.model_config import ScorerModel
from c3l_ray.scenes import world
from c3l_ray.scenes.draw import draw_scene
from tests.inference.builders import scene_turn

SCENES = [draw_scene(seed) for seed in range(4)]


@pytest.fixture(scope="module")
def model() -> ScoringModel:
    return ScoringModel(ScorerModel(dtype="float32"), str(world.LLAVA))


def test_the_next_batch_is_made_while_one_is_computed(
    model: ScoringModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And no more than that one, so that memory stays bounded."""
    made: list[int] = []
    is_made = threading.Condition()
    scorer, compute = PackedScorer(model), model.hidden_states
    make_inputs = scorer._model_inputs
    made_at_passes: list[int] = []

    def make_and_tell(groups: Any) -> ModelInputs:
        inputs = make_inputs(groups)
        with is_made:
            made.append(len(groups))
            is_made.notify()
        return inputs

    def wait_and_compute(inputs: ModelInputs) -> torch.Tensor:
        num_wanted = min(len(made_at_passes) + 2, len(SCENES))
        with is_made:
            assert is_made.wait_for(lambda: len(made) >= num_wanted, timeout=60)
        made_at_passes.append(len(made))
        return compute(inputs)

    monkeypatch.setattr(model, "max_tokens", 1)  # an image for each pass
    monkeypatch.setattr(scorer, "_model_inputs", make_and_tell)
    monkeypatch.setattr(model, "hidden_states", wait_and_compute)
    turns = [scene_turn(scene, "what ?", "red") for scene in SCENES]
    scorer.measure(turns)
    assert made_at_passes == [2, 3, 4, 4]


def test_what_cannot_be_made_ahead_raises_where_it_is_awaited() -> None:
    def make() -> Iterator[int]:
        yield 0
        raise ValueError("the second")

    items = make_ahead(make())
    assert next(items) == 0
    with pytest.raises(ValueError, match="the second"):
        next(items)
    assert list(make_ahead(iter([0, None, 2]))) == [0, None, 2]
