import tarfile
from pathlib import Path

import pytest

from c3l_ray.errors import PreflightError
from jobs.demo import DemoConfig, draw_input, make_c3l_config, read_photographs


def test_the_input_is_scenes_and_photographs(tmp_path: Path) -> None:
    config = DemoConfig(output=tmp_path / "demo", num_scenes=60)
    draw_input(config)
    shards = sorted((config.output / "input").iterdir())
    assert [shard.name for shard in shards] == [
        "photographs.tar",
        "scenes-00000.tar",
        "scenes-00001.tar",
    ]
    with tarfile.open(shards[0]) as tar:
        assert tar.getnames() == [name for name, _ in read_photographs()]
        assert len(tar.getnames()) == 20
    assert make_c3l_config(config).input == (str(config.output / "input"),)


def test_an_earlier_demo_is_replaced_and_nothing_else(tmp_path: Path) -> None:
    config = DemoConfig(output=tmp_path, num_scenes=1)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(PreflightError, match="holds something other than an earlier demo"):
        draw_input(config)
    assert (tmp_path / "notes.txt").exists()
    (tmp_path / "input").mkdir()
    (tmp_path / "input" / "photographs.tar").touch()
    draw_input(config)
    assert [path.name for path in tmp_path.iterdir()] == ["input"]
