"""Where the tokens of a micro-batch's texts stand in the rows that the model reads.

Shapes: B rows that the model reads, L their places, R texts, T their tokens, N chosen tokens, D the
model's width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

TOKEN_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "mm_token_type_ids")
"""What a processor returns for each token; everything else belongs to the images."""


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """The row of each text, and the place in it of each of its tokens.

    Attributes:
        row_R: the texts' rows.
        place_RT: the tokens' places.
    """

    row_R: Tensor
    place_RT: Tensor

    @classmethod
    def plain(cls, ids_RT: Tensor) -> "TextRows":
        """Every text in a row of its own."""
        num_texts, length = ids_RT.shape
        return cls(
            row_R=torch.arange(num_texts, device=ids_RT.device),
            place_RT=torch.arange(length, device=ids_RT.device).expand(num_texts, -1),
        )

    def take(self, values_BLD: Tensor, text_N: Tensor, token_N: Tensor) -> Tensor:
        """The values of some tokens, [N, D].

        Args:
            values_BLD: of all places of all rows.
            text_N: the tokens' texts.
            token_N: their numbers in their texts.
        """
        return values_BLD[self.row_R[text_N], self.place_RT[text_N, token_N]]


@dataclass(frozen=True, kw_only=True)
class TokenStates:
    """What the model made of all tokens, and where the texts' tokens are among them.

    Attributes:
        values_BLD: last hidden states, or what the language half was given.
        rows: of the texts.
    """

    values_BLD: Tensor
    rows: TextRows
