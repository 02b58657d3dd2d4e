"""From a picture to text: what happens before and after each of the three models.

| model | takes | gives |
|---|---|---|
| det | FP32 [1, 3, H, W], H and W multiples of 32 | FP32 [1, 1, H, W]: how surely a pixel is text |
| cls | FP32 [N, 3, 48, 192], lines of text | FP32 [N, 2]: how surely a line is upright, turned |
| rec | FP32 [N, 3, 48, W], lines of text | FP32 [N, T, characters]: T steps from left to right |

Pictures are UINT8 [height, width, 3] in RGB. The models want BGR, scaled from 0..255 to -1..1.
"""

import math

import numpy as np
from PIL import Image

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels; right and bottom are outside."""

DET_MULTIPLE = 32
"""The detector halves its input five times."""

DET_THRESHOLD = 0.3
"""A pixel is text from here on."""

DET_BOX_THRESHOLD = 0.5
"""The mean over a box from which it counts as text."""

UNCLIP_RATIO = 1.6
"""The detector is trained on shrunken lines: a box grows by area x ratio / perimeter."""

MIN_SIDE = 3
"""Pixels. Smaller boxes are specks."""

LINE_HEIGHT = 48
CLS_WIDTH = 192

CLS_CERTAINTY = 0.9
"""Turn a line only if cls is this sure."""

REC_MIN_WIDTH = 320
"""The width that rec was trained at; shorter lines are padded to it."""

REC_WIDTH_STEP = 64
"""Wider lines are padded to a multiple of this, so that lines of about the same length have the
same shape and share a batch."""


def det_input(picture: np.ndarray) -> np.ndarray:
    """The detector's input: the picture, its edges repeated up to multiples of 32."""
    height, width = picture.shape[:2]
    padded = np.pad(
        picture, ((0, -height % DET_MULTIPLE), (0, -width % DET_MULTIPLE), (0, 0)), mode="edge"
    )
    return _normalised(padded)[np.newaxis]


def det_boxes(output: np.ndarray, picture: np.ndarray) -> list[Box]:
    """The boxes of the lines of text in a detector's output, from top to bottom."""
    probabilities = output[0, 0]
    height, width = picture.shape[:2]
    boxes = []
    for left, top, right, bottom in _cut(probabilities > DET_THRESHOLD):
        if min(right - left, bottom - top) < MIN_SIDE:
            continue
        if probabilities[top:bottom, left:right].mean() < DET_BOX_THRESHOLD:
            continue
        area, perimeter = (right - left) * (bottom - top), 2 * (right - left + bottom - top)
        grow = round(area * UNCLIP_RATIO / perimeter)
        boxes.append((
            max(left - grow, 0), max(top - grow, 0),
            min(right + grow, width), min(bottom + grow, height),
        ))
    return sorted(boxes, key=lambda box: (box[1], box[0]))


def _cut(mask: np.ndarray, left: int = 0, top: int = 0) -> list[Box]:
    """The boxes of a mask's parts: cut along empty rows and columns until none is left.

    This finds all lines of a page whose lines run along its edges, which is what it is for.
    """
    rows = _runs(np.logical_or.reduce(mask, axis=1))
    columns = _runs(np.logical_or.reduce(mask, axis=0))
    whole = [(0, mask.shape[0])], [(0, mask.shape[1])]
    if (rows, columns) == whole:
        return [(left, top, left + mask.shape[1], top + mask.shape[0])]
    return [
        box
        for first_row, last_row in rows
        for first_column, last_column in columns
        if mask[first_row:last_row, first_column:last_column].any()
        for box in _cut(
            mask[first_row:last_row, first_column:last_column],
            left + first_column, top + first_row,
        )
    ]


def _runs(flags: np.ndarray) -> list[tuple[int, int]]:
    """Start and end of each run of true values."""
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]


def crop(picture: np.ndarray, box: Box) -> np.ndarray:
    """The part of a picture in a box."""
    left, top, right, bottom = box
    return picture[top:bottom, left:right]


def cls_input(line: np.ndarray) -> np.ndarray:
    """The input of cls for one line, [1, 3, 48, 192]: scaled, and padded at its right."""
    return _line_input(line, CLS_WIDTH)


def upright(line: np.ndarray, output: np.ndarray) -> np.ndarray:
    """The line, turned by half a turn if the output of cls, [1, 2], says so."""
    return line[::-1, ::-1] if output[0, 1] > CLS_CERTAINTY else line


def rec_input(line: np.ndarray) -> np.ndarray:
    """The input of rec for one line, [1, 3, 48, W]."""
    width = max(_scaled_width(line), REC_MIN_WIDTH)
    return _line_input(line, math.ceil(width / REC_WIDTH_STEP) * REC_WIDTH_STEP)


def rec_text(output: np.ndarray, characters: list[str]) -> str:
    """The text in an output of rec, [1, T, characters]: the likeliest character of each step,
    without repetitions and blanks (greedy CTC decoding)."""
    steps = output[0].argmax(axis=1)
    fresh = np.diff(steps, prepend=0) != 0
    return "".join(characters[step] for step in steps[fresh & (steps != 0)])


def character_list(metadata: str) -> list[str]:
    """The characters of rec's outputs, from the entry `character` of the model's metadata: the
    blank is number 0 and is not listed, nor is the space, which is last."""
    return ["", *metadata.splitlines(), " "]


def _scaled_width(line: np.ndarray) -> int:
    height, width = line.shape[:2]
    return int(max(math.ceil(LINE_HEIGHT * width / height), 1))


def _line_input(line: np.ndarray, width: int) -> np.ndarray:
    scaled_width = min(_scaled_width(line), width)
    image = Image.fromarray(np.ascontiguousarray(line))
    scaled = np.asarray(image.resize((scaled_width, LINE_HEIGHT), Image.Resampling.BILINEAR))
    padded = np.zeros((1, 3, LINE_HEIGHT, width), np.float32)
    padded[0, :, :, :scaled_width] = _normalised(scaled)
    return padded


def _normalised(picture: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3] in 0..255 to BGR [3, H, W] in -1..1."""
    return picture[:, :, ::-1].transpose(2, 0, 1).astype(np.float32) / 127.5 - 1
