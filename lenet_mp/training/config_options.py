"""The options of a training run on the command lines of all commands that train."""

from __future__ import annotations

import argparse
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from lenet_mp.training import config
from lenet_mp.training.config import Config

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from dataclasses import Field


def add(group: argparse._ArgumentGroup, *, shown: Collection[str] = (), left_out: Collection[str] = ()) -> None:
    """Add an option for each field of :class:`Config` but ``left_out``; given ones alone become attributes.

    ``shown`` names the fields that help tells about; none stands for all.
    """
    for option in fields(Config):
        if option.name not in left_out:
            _add(group, option, hidden=bool(shown) and option.name not in shown)


def _add(group: argparse._ArgumentGroup, option: Field[Any], *, hidden: bool) -> None:
    limits, default = option.metadata, option.default
    if isinstance(default, bool):
        kind: dict[str, Any] = {"action": argparse.BooleanOptionalAction}
    else:
        kind = {"type": type(default), "choices": limits.get("choices"), "metavar": limits.get("metavar")}
    shown = f"{default:g}" if isinstance(default, float) else str(default)
    text = limits["help"] if default == "" or default is False else f"{limits['help']} ({shown})"
    text = argparse.SUPPRESS if hidden else text
    group.add_argument(config.flag(option.name), dest=option.name, default=argparse.SUPPRESS, help=text, **kind)


def words(saved: Mapping[str, Any]) -> list[str]:
    """Return the words of a command line that gives the options ``saved``: those that its recipe would not set so."""
    recipe = config.RECIPES.get(str(saved.get("recipe")), {})
    found = []
    for option in fields(Config):
        value = saved.get(option.name, option.default)
        if value == recipe.get(option.name, option.default):
            continue
        spelled = config.flag(option.name)
        if isinstance(value, bool):
            found.append(spelled if value else spelled.replace("--", "--no-", 1))
        else:
            found += [spelled, str(value)]
    return found
