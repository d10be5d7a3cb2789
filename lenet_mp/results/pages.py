"""HTML pages that need nothing but themselves: templates filled in, with the filters that all of them use."""

from __future__ import annotations

from typing import Any

import jinja2

import lenet_mp
from lenet_mp import tables


def render(template: str, **contents: Any) -> str:
    """Fill in ``template`` of this package; all text is escaped, and bytes that are no text are replaced by a sign."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("lenet_mp.results"), autoescape=True, trim_blocks=True, lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )  # fmt: skip
    environment.filters["percent"] = lambda share: "-" if share is None else f"{share:.1%}"
    environment.filters["count"] = lambda number: f"{number:,}"
    return tables.readable(environment.get_template(template).render(version=lenet_mp.__version__, **contents))
