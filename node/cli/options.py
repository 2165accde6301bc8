"""Options that commands share."""

import math
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from node.home import Home, find_home

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

F = TypeVar("F", bound=Callable[..., Any])


def command(name: str, **settings: Any) -> Callable[[Callable[..., Any]], click.Command]:
    """A command with --home and --json; its function gets `home` and `as_json`."""

    def decorate(function: Callable[..., Any]) -> click.Command:
        with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON for programs.")(function)
        with_home = click.option(
            "--home",
            metavar="DIR",
            type=DIRECTORY,
            callback=_get_home,
            help="Where the node lives [default: $LUCID_HOME or ~/.lucid].",
        )(with_json)
        make: Callable[[Callable[..., Any]], click.Command] = click.command(name, help="", **settings)
        return make(with_home)

    return decorate


def _get_home(context: click.Context, _parameter: click.Parameter, value: str | None) -> Home | None:
    if context.resilient_parsing:
        return None
    above = context.find_root().params.get("home_default")
    return find_home(value if value is not None else above, os.environ)


class PathWord(click.ParamType[str]):
    """A path, taken as it is written; the shell completes it.

    Args:
        kind: what the shell offers: "file" (directories as well) or "dir".
    """

    name = "path"

    def __init__(self, kind: str) -> None:
        self._kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> "list[CompletionItem]":
        """See `click.ParamType`."""
        from click.shell_completion import CompletionItem

        return [CompletionItem(incomplete, type=self._kind)]


FILE, DIRECTORY = PathWord("file"), PathWord("dir")


class Size(click.ParamType[int]):
    """A size such as "20G", in bytes."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType`."""
        from node.units import parse_size

        return value if isinstance(value, int) else parse_size(value)


class Duration(click.ParamType[int]):
    """A duration such as "90d", in seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """See `click.ParamType`."""
        from node.units import parse_duration

        return value if isinstance(value, int) else parse_duration(value)


class Number(click.FloatRange):
    """A number within bounds; "nan" is none, although it is outside of no bounds."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """See `click.ParamType`."""
        number = super().convert(value, param, ctx)
        if math.isnan(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


session_argument = click.argument("session", metavar="ID")
