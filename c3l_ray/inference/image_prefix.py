"""How a model takes in one image: the tokens that its placeholder becomes, and their positions.

All turns about an image begin with these tokens, so packed scoring reads them once.
Tensor names carry shapes: B rows, T tokens of a row.
"""

from dataclasses import dataclass

from PIL import Image
from torch import Tensor

from c3l_ray.inference.model_inputs import ModelInputs, select_image_inputs
from c3l_ray.inference.packing import PackingError
from c3l_ray.inference.scoring_model import (
    ScoringModel,
    TokenizedTurn,
    TurnToScore,
)


@dataclass(frozen=True, kw_only=True)
class ImagePrefix:
    """The tokens of an image and those before it, and the image's inputs to the model.

    Attributes:
        leading_ids: the tokens before the first one that the processor changes. Where the
            placeholder is the image's token itself, it is the last of these.
        placeholder_ids: the tokens of a rendered text that the processor replaces, perhaps none.
        image_tokens: the token ids that it puts in their place.
        positions: of all tokens up to the last image token, [3, T]; None where they are the
            tokens' depths.
        image_inputs: the processor's inputs that belong to the image.
    """

    leading_ids: list[int]
    placeholder_ids: list[int]
    image_tokens: list[int]
    positions: Tensor | None
    image_inputs: ModelInputs

    @property
    def num_added(self) -> int:
        """Tokens by which a turn is longer with the image than with its placeholder."""
        return len(self.image_tokens) - len(self.placeholder_ids)

    def expand_turn(self, turn: TokenizedTurn) -> TokenizedTurn:
        """A turn about this image, its placeholder replaced by the image's tokens.

        Raises:
            PackingError: the turn begins with other tokens.
        """
        start = len(self.leading_ids)
        end = start + len(self.placeholder_ids)
        if turn.ids[:start] != self.leading_ids or turn.ids[start:end] != self.placeholder_ids:
            raise PackingError("the turns of an image begin with different tokens")
        return TokenizedTurn(
            ids=[*self.leading_ids, *self.image_tokens, *turn.ids[end:]],
            answer_start=turn.answer_start + self.num_added,
            answer_end=turn.answer_end + self.num_added,
        )


def read_image_prefix(model: ScoringModel, turn: TurnToScore, image: Image.Image) -> ImagePrefix:
    """What the processor makes of an image, read from what it makes of one turn about it."""
    text_ids = model.tokenize_turn(turn, with_image=True).ids
    inputs = model.process_turn(turn, image)
    expanded_ids: list[int] = inputs["input_ids"][0].tolist()
    shorter = min(len(text_ids), len(expanded_ids))
    num_leading = next((i for i in range(shorter) if text_ids[i] != expanded_ids[i]), shorter)
    num_trailing = next(
        (i for i in range(shorter - num_leading) if text_ids[-1 - i] != expanded_ids[-1 - i]),
        shorter - num_leading,
    )
    image_end = len(expanded_ids) - num_trailing
    return ImagePrefix(
        leading_ids=text_ids[:num_leading],
        placeholder_ids=text_ids[num_leading : len(text_ids) - num_trailing],
        image_tokens=expanded_ids[num_leading:image_end],
        positions=_prefix_positions(model, inputs, image_end),
        image_inputs=select_image_inputs(inputs),
    )


def _prefix_positions(model: ScoringModel, inputs: ModelInputs, end: int) -> Tensor | None:
    """The positions of the first `end` tokens, [3, T], of models that give images such; or None."""
    get_rope_index = getattr(model.vlm.base_model, "get_rope_index", None)
    if get_rope_index is None:
        return None
    tables = {name: values for name, values in inputs.items() if values.dim() == 2}
    positions_3BT: Tensor = get_rope_index(**tables)[0]
    return positions_3BT[:, 0, :end]
