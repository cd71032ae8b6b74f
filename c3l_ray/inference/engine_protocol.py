"""What a generation engine is asked and what it replies: the seam between our code and vLLM's.

`engine.Engine` is vLLM behind this protocol, `scripted_engine.ScriptedEngine` a double for tests.
"""

from dataclasses import dataclass
from typing import Any, Protocol

from PIL import Image


@dataclass(frozen=True, kw_only=True)
class Decoding:
    """How one reply is decoded.

    Attributes:
        temperature: of the sampling; 0 is greedy.
        top_p: the share of the probability that is drawn from.
        max_tokens: the longest reply; a longer one is cut.
        repetition_penalty: vLLM's; it counts the prompt's tokens too.
        stops: texts that end the reply and are part of it.
        num_beams: above 1, a beam search of this width finds the likeliest reply; of the other
            fields only `max_tokens` and `stops` then matter, and each beam and token is a request.
    """

    temperature: float
    top_p: float = 1.0
    max_tokens: int
    repetition_penalty: float = 1.0
    stops: tuple[str, ...] = ()
    num_beams: int = 1


@dataclass(frozen=True, kw_only=True)
class GenerationRequest:
    """One request to the engine.

    Attributes:
        prompt_ids: the rendered prompt's tokens, with one placeholder for the image.
        image: what the placeholder stands for.
        image_key: a name for this image's content; requests that share it share its work.
        seed: of the sampling, below 2**31.
        json_schema: of the JSON that the reply must be; None leaves the reply free.
        pattern: a regular expression that the whole reply must match, in place of a schema.
        decoding: of the reply; None takes the engine's own sampling.
        keep_special_tokens: whether special tokens stand in the reply's text.
    """

    prompt_ids: list[int]
    image: Image.Image
    image_key: str
    seed: int
    json_schema: dict[str, Any] | None = None
    pattern: str | None = None
    decoding: Decoding | None = None
    keep_special_tokens: bool = False


@dataclass(frozen=True, kw_only=True)
class Reply:
    """The engine's reply to a request.

    Attributes:
        text: the reply, without special tokens unless the request keeps them.
        finish_reason: why it ended: "stop" by itself, "stop_string" at one of the decoding's stops,
            or "length" where it was cut.
        num_tokens: tokens generated, those of discarded beams included.
    """

    text: str
    finish_reason: str
    num_tokens: int


@dataclass
class EngineLoad:
    """What an engine has to do, and has done.

    Attributes:
        requests: that it has taken and not answered yet.
        prompt_tokens: of the prompts that it has answered.
        cached_tokens: those of them that its cache of prefixes held.
    """

    requests: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0


class GenerationEngine(Protocol):
    """What `TurnGenerator` needs of an engine.

    Attributes:
        notes: what the user should know about the engine's replies, a sentence each.
        load: of the engine, as it is now.
    """

    notes: list[str]
    load: EngineLoad

    async def ask(self, request: GenerationRequest) -> Reply:
        """The reply to one request; many may be under way at once.

        Raises:
            RefusedRequest: the engine does not take this prompt or image.
            EngineFailure: the engine is gone.
        """
        ...
