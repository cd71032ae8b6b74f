"""A config of a job that scores, and generates nothing."""

from pathlib import Path
from typing import Any

from c3l_ray.config import ScoreConfig
from c3l_ray.model_config import RequiredScorerModel, ScorerPool


def make_score_config(tmp_path: Path, **pools: Any) -> ScoreConfig:
    return ScoreConfig(
        input=(str(tmp_path / "in"),),
        output=str(tmp_path / "run"),
        scorer=RequiredScorerModel(name="s"),
        pools=ScorerPool(**pools),
    )
