"""What the places of packed rows may attend to, as a model's layers attend.

Tensor names carry shapes: B rows, L places of a row.
"""

from typing import Any

import torch
from torch import Tensor

from c3l_ray.inference.packing import PackingError

FULL, SLIDING = "full_attention", "sliding_attention"


class PackAttention:
    """The attention of a model's layers over packs.

    Args:
        config: of the vision-language model.

    Attributes:
        image_sees_itself: whether the tokens of an image see each other, also those that come
            later, as Gemma 3 has it.

    Raises:
        PackingError: its layers attend in a way that packs do not follow.
    """

    def __init__(self, config: Any) -> None:
        text_config = config.get_text_config()
        layer_types = getattr(text_config, "layer_types", None)
        self.image_token_id: Any = getattr(config, "image_token_id", None)
        self.window: int | None = getattr(text_config, "sliding_window", None)
        if layer_types is None and self.window:
            raise PackingError("its config has a sliding window and does not say in which layers")
        if unknown := sorted({*(layer_types or ())} - {FULL, SLIDING}):
            raise PackingError(f"it has layers of {', '.join(unknown)}")
        self.has_sliding_layers = SLIDING in (layer_types or ())
        self.image_sees_itself = config.model_type == "gemma3"

    def make_masks(self, ends_BL: Tensor, depths_BL: Tensor, ids_BL: Tensor) -> Any:
        """What may attend to what, for all layers or by their kind: [B, 1, L, L], True for yes.

        Args:
            ends_BL: place i attends to place j where j <= i < ends[j].
            depths_BL: how many tokens come before each on its path.
            ids_BL: the tokens.
        """
        places_L = torch.arange(ends_BL.shape[1], device=ends_BL.device)
        mask_BLL = (places_L <= places_L[:, None]) & (places_L[:, None] < ends_BL[:, None])
        if self.image_sees_itself:
            is_image_BL: Tensor = torch.eq(ids_BL, self.image_token_id)
            image_BLL = is_image_BL[:, :, None] & is_image_BL[:, None]
        else:
            image_BLL = torch.zeros_like(mask_BLL)
        full_B1LL = (mask_BLL | image_BLL).unsqueeze(1)
        if not self.has_sliding_layers or self.window is None:
            return full_B1LL
        near_BLL = depths_BL[:, :, None] - depths_BL[:, None] < self.window
        return {FULL: full_B1LL, SLIDING: (mask_BLL & near_BLL | image_BLL).unsqueeze(1)}
