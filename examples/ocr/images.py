"""The demo's pictures: text drawn at known places, so that what is read can be checked."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK = (20, 24, 40)
PAPER = (250, 248, 242)


@dataclass(frozen=True)
class Line:
    """One line of text. Position and height in pixels of the picture as drawn; `height` is the
    font's size."""

    text: str
    left: int
    top: int
    height: int


@dataclass(frozen=True)
class Page:
    """What to draw. `upside_down` turns the finished picture by half a turn."""

    name: str
    width: int
    height: int
    lines: Sequence[Line]
    upside_down: bool = False

    @property
    def size(self) -> str:
        """Width and height as people write them."""
        return f"{self.width}x{self.height}"


@dataclass(frozen=True)
class Drawn:
    """A line's text and its box in the finished picture: left, top, right, bottom."""

    text: str
    box: tuple[int, int, int, int]


PAGES = (
    Page("label", 320, 96, [Line("Parcel 48219", 24, 24, 36)]),
    Page("sign", 480, 200, [Line("Platform 7", 60, 30, 52), Line("Departure 09:45", 60, 120, 40)]),
    Page("card", 640, 360, [
        Line("Marble and Finch", 48, 40, 48),
        Line("Garden architects", 48, 120, 34),
        Line("Room 12 in house 7", 48, 220, 32),
        Line("Open Monday to Friday", 48, 284, 32),
    ]),
    Page("receipt", 400, 640, [
        Line("Corner bakery", 56, 36, 38),
        Line("Rye bread", 40, 140, 30), Line("4.20", 290, 140, 30),
        Line("Apple cake", 40, 210, 30), Line("12.50", 290, 210, 30),
        Line("Coffee", 40, 280, 30), Line("3.10", 290, 280, 30),
        Line("TOTAL", 40, 400, 40), Line("19.80", 272, 400, 40),
        Line("Thank you", 120, 540, 36),
    ]),
    Page("turned", 560, 280, [
        Line("This page was scanned", 50, 50, 40), Line("with its head down", 50, 150, 40),
    ], upside_down=True),
    Page("poster", 960, 540, [
        Line("Summer concert", 90, 60, 88),
        Line("Saturday 21 June", 90, 220, 64),
        Line("Riverside Hall", 90, 340, 64),
        Line("Doors open at seven", 90, 440, 44),
    ]),
    Page("slide", 1280, 720, [
        Line("Quarterly report", 120, 80, 84),
        Line("Revenue grew by 14 percent", 120, 260, 56),
        Line("Costs fell by 3 percent", 120, 380, 56),
        Line("Page 12", 1040, 630, 40),
    ]),
    Page("banner", 1200, 160, [Line("Mixed sizes batch well together", 70, 44, 66)]),
)
"""Eight pictures in eight sizes. Words are set in lower case because the recognition model, which
knows Chinese first, tends to close the gap between capitals."""


def draw(page: Page) -> tuple[np.ndarray, list[Drawn]]:
    """The picture, UINT8 [height, width, 3] in RGB, and where its lines are."""
    image = Image.new("RGB", (page.width, page.height), PAPER)
    canvas = ImageDraw.Draw(image)
    drawn = []
    for line in page.lines:
        font = ImageFont.load_default(line.height)
        canvas.text((line.left, line.top), line.text, INK, font)
        left, top, right, bottom = map(
            int, canvas.textbbox((line.left, line.top), line.text, font)
        )
        if right > page.width or bottom > page.height:
            raise ValueError(f"'{line.text}' does not fit the page '{page.name}'")
        drawn.append(Drawn(line.text, (left, top, right, bottom)))
    if page.upside_down:
        image = image.transpose(Image.Transpose.ROTATE_180)
        drawn = [Drawn(line.text, _turned(line.box, page)) for line in drawn]
    return np.asarray(image), drawn


def _turned(box: tuple[int, int, int, int], page: Page) -> tuple[int, int, int, int]:
    left, top, right, bottom = box
    return page.width - right, page.height - bottom, page.width - left, page.height - top
