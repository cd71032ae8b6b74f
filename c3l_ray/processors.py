"""Processors with the arguments of their chat template: one prompt for every use of a model.

Whatever generates, scores or trains loads its processor here. Thinking is off where the template
knows how to switch it off and nobody has asked for it: a turn is scored and learnt without a
thought, so the model should write it without one.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from functools import cache, lru_cache, partial
from pathlib import Path
from typing import Any

from c3l_ray.errors import PreflightError
from c3l_ray.model_files import resolve_model
from c3l_ray.template_args import format_template_args, parse_template_args

THINKING_SWITCH = "enable_thinking"
"""The name under which templates of Qwen, Gemma 4, GLM and others take it."""

# What transformers gives every template by itself, beside the tokenizer's special tokens.
_GIVEN = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception"}
_GIVEN |= {"strftime_now", "continue_final_message"}


def inspect_processor(path: str, revision: str | None, trust_remote_code: bool) -> Any:
    """The processor of a model as it lies, to look at: its parts are read once by a process.

    Args:
        path: of the model's folder, or its hub name.
        revision: of a hub name; None takes the latest.
        trust_remote_code: whether code of the model's own may run.

    Raises:
        OSError, ValueError: the processor cannot be loaded.
    """
    files = [file for file in Path(path).glob("*") if file.suffix in (".json", ".jinja", ".py")]
    states = [(file.name, file.stat().st_mtime_ns, file.stat().st_size) for file in files]
    return copy.copy(_read_processor(path, revision, trust_remote_code, tuple(sorted(states))))


@lru_cache(maxsize=2)  # the generator's and the scorer's
def _read_processor(
    path: str, revision: str | None, trust_remote_code: bool, _: tuple[tuple[str, int, int], ...]
) -> Any:
    from transformers import AutoProcessor

    return AutoProcessor.from_pretrained(
        path, revision=revision or "main", trust_remote_code=trust_remote_code
    )


def load_processor(
    name: str,
    template_args: Sequence[str] = (),
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> Any:
    """The processor of a model, which renders every conversation with these arguments.

    Args:
        name: hub name, path or s3:// folder of the model.
        template_args: NAME=JSON each.
        revision: of a hub name; None takes the latest.
        trust_remote_code: whether code of the model's own may run.

    Raises:
        ValueError: an argument is not NAME=JSON.
        OSError: the processor cannot be loaded.
    """
    from transformers import AutoProcessor

    processor: Any = AutoProcessor.from_pretrained(
        resolve_model(name, revision), trust_remote_code=trust_remote_code
    )
    return with_template_args(processor, template_args)


def with_template_args(processor: Any, template_args: Sequence[str]) -> Any:
    """The processor, made to render with these arguments, and with those by default.

    Args:
        processor: of a model; it is changed.
        template_args: NAME=JSON each.
    """
    args = with_thinking_off(parse_template_args(template_args), list_template_args(processor))
    if args:
        processor.apply_chat_template = partial(processor.apply_chat_template, **args)
    return processor


def resolve_template_args(
    flag: str,
    name: str,
    template_args: Sequence[str],
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[str, ...]:
    """All arguments with which a model's template is rendered, those by default included.

    Args:
        flag: of the arguments, such as "--model.template-args".
        name: of the model.
        template_args: NAME=JSON each, as the user has them.
        revision, trust_remote_code: as for `load_processor`.

    Raises:
        PreflightError: the template does not know one of them.
    """
    known = _list_known_args(name, revision, trust_remote_code)
    args = parse_template_args(template_args)
    if unknown := sorted(args.keys() - known):
        knows = f"it knows {', '.join(sorted(known))}" if known else "it takes none"
        raise PreflightError(
            f"{flag} {unknown[0]}: the chat template of {name} has no such argument; {knows}"
        )
    return format_template_args(with_thinking_off(args, known))


def keep_known_args(
    name: str,
    template_args: Sequence[str],
    *,
    revision: str | None = None,
    trust_remote_code: bool = False,
) -> tuple[str, ...]:
    """Those of another model's arguments that a model's template knows, and its own by default."""
    known = _list_known_args(name, revision, trust_remote_code)
    args = parse_template_args(template_args)
    kept = {arg: value for arg, value in args.items() if arg in known}
    return format_template_args(with_thinking_off(kept, known))


def list_template_args(processor: Any) -> frozenset[str]:
    """The names that a processor's chat template reads and that transformers does not give it."""
    template = getattr(processor, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    return _list_variables(template) if template else frozenset()


def with_thinking_off(args: Mapping[str, Any], known: frozenset[str]) -> dict[str, Any]:
    """The arguments, and thinking switched off where the template knows it and they do not say."""
    off = {THINKING_SWITCH: False} if THINKING_SWITCH in known else {}
    return {**off, **args}


def is_thinking_on(processor: Any) -> bool:
    """Whether a processor of `load_processor` was asked to let the model think."""
    args = getattr(processor.apply_chat_template, "keywords", {})
    return bool(args.get(THINKING_SWITCH))


def _list_known_args(name: str, revision: str | None, trust_remote_code: bool) -> frozenset[str]:
    _download(name, revision)
    return list_template_args(inspect_processor(resolve_model(name), revision, trust_remote_code))


@cache
def _download(name: str, revision: str | None) -> None:
    """Downloads a revision of the hub where it is seen: the logs of actors hide how far it is."""
    resolve_model(name, revision)


@cache
def _list_variables(template: str) -> frozenset[str]:
    """The free variables of a template, without those that everybody gives it."""
    from jinja2 import Environment, defaults, ext, meta, nodes

    class GenerationTag(ext.Extension):
        """{% generation %}, which transformers adds to the language."""

        def __init__(self, environment: Environment) -> None:
            super().__init__(environment)
            self.tags = {"generation"}

        def parse(self, parser: Any) -> nodes.Node:
            line = next(parser.stream).lineno
            body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
            return nodes.Scope(body, lineno=line)

    environment = Environment(extensions=[GenerationTag, ext.loopcontrols])
    tree = environment.parse(template)
    first_uses: dict[str, str] = {}
    for name in _walk_names(tree):
        first_uses.setdefault(name.name, name.ctx)
    # A name that is set first, in one branch or another, is the template's own.
    read_first = {name for name, use in first_uses.items() if use == "load"}
    variables = meta.find_undeclared_variables(tree) & read_first
    return frozenset(
        name
        for name in variables - _GIVEN - defaults.DEFAULT_NAMESPACE.keys()
        if not name.endswith(("_token", "_tokens"))
    )


def _walk_names(node: Any) -> Iterator[Any]:
    """The names in a part of a template, in the order in which they are read and set."""
    from jinja2 import nodes

    if isinstance(node, nodes.Name):
        yield node
    children = list(node.iter_child_nodes())
    # {% set a = b %} and {% for a in b %} name a first, and set it when b has been read.
    if isinstance(node, nodes.Assign | nodes.For):
        children.insert(1, children.pop(0))
    for child in children:
        yield from _walk_names(child)
