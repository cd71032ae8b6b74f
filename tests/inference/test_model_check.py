import json
import shutil
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from c3l_ray.errors import PreflightError
from c3l_ray.inference.model_check import check_clip, check_vlm, reply_format
from c3l_ray.scenes import world


@pytest.fixture
def llava(tmp_path: Path) -> Path:
    return Path(shutil.copytree(world.LLAVA, tmp_path / "llava"))


def test_the_identity_is_the_content_not_the_path(llava: Path) -> None:
    shipped = check_vlm("--model.name", str(world.LLAVA))
    assert check_vlm("--model.name", str(llava)) == shipped
    changed = llava.parent / "changed"
    shutil.copytree(llava, changed)
    weights = bytearray((changed / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (changed / "model.safetensors").write_bytes(weights)
    assert check_vlm("--model.name", str(changed)) != shipped


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"--model.name .*/absent: no such folder"):
        check_vlm("--model.name", str(tmp_path / "absent"))


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(PreflightError, match=r"no config\.json"):
        check_vlm("--scorer.name", str(tmp_path))


def test_a_config_that_is_not_json(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(PreflightError, match="cannot be read as a model"):
        check_vlm("--model.name", str(tmp_path))


def test_a_name_that_no_hub_has() -> None:
    with pytest.raises(PreflightError, match="nobody/nothing: cannot be read as a model"):
        check_vlm("--model.name", "nobody/nothing")


def test_a_text_only_model(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=1
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    with pytest.raises(PreflightError, match=r"a text-only model \(llama\)"):
        check_vlm("--model.name", str(tmp_path))


def test_a_model_without_weights(llava: Path) -> None:
    (llava / "model.safetensors").unlink()
    with pytest.raises(PreflightError, match="has no weights"):
        check_vlm("--model.name", str(llava))


def test_a_model_without_a_chat_template(llava: Path) -> None:
    (llava / "chat_template.jinja").unlink()
    with pytest.raises(PreflightError, match="no chat template"):
        check_vlm("--model.name", str(llava))


@pytest.mark.parametrize(
    ("family", "format_"),
    [("llava", "text"), ("llava_next", "text"), ("qwen2_5_vl", "json"), ("gemma3", "json")],
)
def test_the_family_decides_how_replies_are_written(
    tmp_path: Path, family: str, format_: str
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
    assert reply_format(str(tmp_path)) == format_


def test_clip_by_path_name_and_file(tmp_path: Path) -> None:
    assert check_clip(str(world.CLIP), None) == check_clip(str(world.CLIP), "ignored")
    assert check_clip("ViT-B-32", "laion2b_s34b_b79k") == "ViT-B-32:laion2b_s34b_b79k"
    assert check_clip("hf-hub:owner/name", None) == "hf-hub:owner/name"
    weights = tmp_path / "w.pt"
    weights.write_bytes(b"w")
    assert check_clip("ViT-B-32", str(weights)).startswith("ViT-B-32:")


@pytest.mark.parametrize(
    ("name", "weights", "message"),
    [
        ("/absent/clip", None, "no open_clip_config"),
        ("ViT-B-33", "x", "no such architecture"),
        ("ViT-B-32", None, "needs weights"),
        ("ViT-B-32", "no-such-tag", "nor a tag"),
    ],
)
def test_clip_that_cannot_be(name: str, weights: str | None, message: str) -> None:
    with pytest.raises(PreflightError, match=message):
        check_clip(name, weights)


def test_clip_without_weights(tmp_path: Path) -> None:
    (tmp_path / "open_clip_config.json").write_text(json.dumps({}))
    with pytest.raises(PreflightError, match="has no weights"):
        check_clip(str(tmp_path), None)
