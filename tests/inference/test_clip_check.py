import json
from pathlib import Path

import huggingface_hub
import pytest

from c3l_ray.errors import PreflightError
from c3l_ray.inference import clip_check
from c3l_ray.inference.clip_check import check_clip
from c3l_ray.model_config import ClipModel
from c3l_ray.scenes import world


def test_clip_by_path_name_and_file(tmp_path: Path) -> None:
    assert check_clip(str(world.CLIP), None) == check_clip(str(world.CLIP), "ignored")
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"w")
    assert check_clip("ViT-B-32", str(weights)).startswith("ViT-B-32:")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("/absent/clip", None, "no such folder"),
        ("hf-hub:name", None, "hub names have the form hf-hub:OWNER/NAME"),
        ("ViT-B-33", "x", "neither a local folder nor an architecture of open_clip"),
        ("owner/name", "x", "hub names have the form hf-hub:OWNER/NAME"),
        ("ViT-B-32", None, "needs weights"),
        ("ViT-B-32", "no-such-tag", "nor a tag"),
    ],
)
def test_a_clip_model_that_does_not_exist(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        check_clip(name, weights)


def test_a_clip_folder_without_config_or_weights(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match="no open_clip_config"):
        check_clip(str(tmp_path), None)
    (tmp_path / "open_clip_config.json").write_text(json.dumps({}))
    with pytest.raises(PreflightError, match="has no weights"):
        check_clip(str(tmp_path), None)


def test_clip_on_the_hub_is_of_one_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str | None]] = []

    def find_commit(repo: str, file: str, revision: str | None) -> str:
        asked.append((repo, revision))
        return "c0ffee"

    monkeypatch.setattr(clip_check, "find_commit", find_commit)
    assert check_clip("hf-hub:owner/name", None) == "hf-hub:owner/name@c0ffee"
    assert check_clip("hf-hub:owner/name@v1", None) == "hf-hub:owner/name@c0ffee"
    assert asked == [("owner/name", None), ("owner/name", "v1")]


def test_weights_by_a_tag_are_on_the_hub_or_on_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(huggingface_hub.HfApi, "model_info", lambda _, repo: asked.append(repo))
    assert check_clip("ViT-B-32", "laion2b_s34b_b79k") == "ViT-B-32:laion2b_s34b_b79k"
    assert asked == ["laion/CLIP-ViT-B-32-laion2B-s34B-b79K"]
    cached = tmp_path / "open_clip_model.safetensors"
    monkeypatch.setattr(
        huggingface_hub,
        "try_to_load_from_cache",
        lambda repo, file: str(cached) if file == cached.name else None,
    )
    assert check_clip("ViT-B-32", "laion2b_s34b_b79k") == "ViT-B-32:laion2b_s34b_b79k"
    assert len(asked) == 1


def test_the_default_clip_without_a_network_is_refused_with_the_way_out() -> None:
    default = ClipModel()
    with pytest.raises(PreflightError, match=r"cannot be reached.*--clip\.name none does"):
        check_clip(str(default.name), default.weights)


def test_clip_that_is_not_on_this_machine_without_a_network() -> None:
    with pytest.raises(PreflightError, match=r"--clip\.name hf-hub:owner/name: is not on this mac"):
        check_clip("hf-hub:owner/name", None)
