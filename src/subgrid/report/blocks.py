"""What a section of the page is made of: drawings for wide and narrow screens, tables, sentences."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from subgrid.report.style import NARROW, PIXELS_PER_INCH, png


@dataclass(frozen=True)
class Drawing:
    """A figure for wide and for narrow screens (PNG bytes), and the sentences below it."""

    name: str
    alt: str
    caption: str
    wide: bytes
    narrow: bytes
    width: int
    narrow_width: int


@dataclass(frozen=True)
class Table:
    """A table: the first column is text, the others are numbers."""

    caption: str
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Section:
    """One part of the page."""

    name: str
    title: str
    lead: list[str] = field(default_factory=list)
    verdict: str = ""
    good: bool = True
    blocks: list[Drawing | Table] = field(default_factory=list)
    code: list[str] = field(default_factory=list)


def drawing(name: str, alt: str, caption: str, draw: Callable[[bool], Figure]) -> Drawing:
    """Draw a figure twice: ``draw(False)`` for a desktop, ``draw(True)`` for a phone."""
    wide = draw(False)
    width = round(wide.get_figwidth() * PIXELS_PER_INCH)
    narrow_width = round(NARROW * PIXELS_PER_INCH)
    return Drawing(name, alt, caption, png(wide), png(draw(True), dpi=200), width, narrow_width)
