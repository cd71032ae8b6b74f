"""A generation engine without a model, for tests of whatever asks one."""

from collections.abc import Awaitable, Callable

from c3l_ray.inference.engine_protocol import EngineLoad, GenerationRequest, Reply


class ScriptedEngine:
    """A `GenerationEngine` that replies by a function of the request and remembers the requests.

        engine = ScriptedEngine(
            lambda request: Reply(text="A red star.", finish_reason="stop", num_tokens=4)
        )

    Args:
        reply_to: returns the reply, or raises what the engine would; it may be asynchronous.
    """

    def __init__(self, reply_to: Callable[[GenerationRequest], Reply | Awaitable[Reply]]) -> None:
        self.notes: list[str] = []
        self.load = EngineLoad()
        self.requests: list[GenerationRequest] = []
        self._reply_to = reply_to

    async def ask(self, request: GenerationRequest) -> Reply:
        self.requests.append(request)
        reply = self._reply_to(request)
        return reply if isinstance(reply, Reply) else await reply
