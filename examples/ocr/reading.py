"""Reads pictures with the three models behind a client."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from examples.ocr import pipeline
from examples.ocr.images import Drawn
from trtserve.client import InferenceError, Result

Inputs = Mapping[str, np.ndarray]


class Models(Protocol):
    """What reads need: an AsyncClient, or anything else that runs models."""

    async def infer(self, model: str, inputs: Inputs, /) -> Result:
        """Run one request."""

    async def infer_many(
        self, items: Sequence[tuple[str, Inputs]], /
    ) -> list[Result | InferenceError]:
        """Run many."""


@dataclass(frozen=True)
class Read:
    """A line as it was read: its text, its box in the picture, and the inputs that it made."""

    text: str
    box: pipeline.Box
    cls_input: np.ndarray
    rec_input: np.ndarray


@dataclass(frozen=True)
class Comparison:
    """A drawn line beside what was read at its place; empty where nothing was."""

    drawn: str
    read: str

    @property
    def right(self) -> bool:
        """Whether they are the same."""
        return self.drawn == self.read


async def read_pictures(
    client: Models, pictures: Sequence[np.ndarray], characters: list[str]
) -> list[list[Read]]:
    """The lines of text in each picture, from top to bottom.

    Detection and angles go as many requests in one call; recognition as one call for each
    line, all at once: the server batches either way. Raises InferenceError.
    """
    detections = [{"x": pipeline.det_input(picture)} for picture in pictures]
    maps = [_only(r) for r in _all(await client.infer_many([("det", d) for d in detections]))]
    boxes = [
        pipeline.det_boxes(output, picture)
        for output, picture in zip(maps, pictures, strict=True)
    ]
    places = [(page, box) for page, found in enumerate(boxes) for box in found]
    lines = [pipeline.crop(pictures[page], box) for page, box in places]
    cls_inputs = [pipeline.cls_input(line) for line in lines]
    angles = _all(await client.infer_many([("cls", {"x": line}) for line in cls_inputs]))
    rec_inputs = [
        pipeline.rec_input(pipeline.upright(line, _only(angle)))
        for line, angle in zip(lines, angles, strict=True)
    ]
    answers = await asyncio.gather(*(client.infer("rec", {"x": line}) for line in rec_inputs))
    texts = [pipeline.rec_text(_only(answer), characters) for answer in answers]
    read: list[list[Read]] = [[] for _ in pictures]
    for (page, box), text, cls, rec in zip(places, texts, cls_inputs, rec_inputs, strict=True):
        read[page].append(Read(text, box, cls, rec))
    return read


def compare(drawn: Sequence[Drawn], read: Sequence[Read]) -> list[Comparison]:
    """Each drawn line with what was read around its middle, then what was read elsewhere."""
    left_over = list(read)
    comparisons = []
    for line in drawn:
        left, top, right, bottom = line.box
        middle = (left + right) / 2, (top + bottom) / 2
        found = [candidate for candidate in left_over if _holds(candidate.box, middle)]
        comparisons.append(Comparison(line.text, " ".join(one.text for one in found)))
        left_over = [one for one in left_over if one not in found]
    return comparisons + [Comparison("", one.text) for one in left_over]


def _holds(box: pipeline.Box, point: tuple[float, float]) -> bool:
    left, top, right, bottom = box
    return left <= point[0] < right and top <= point[1] < bottom


def _all(answers: Iterable[Result | InferenceError]) -> list[Result]:
    """The results; raises the first error among them."""
    results = []
    for answer in answers:
        if isinstance(answer, InferenceError):
            raise answer
        results.append(answer)
    return results


def _only(result: Result) -> np.ndarray:
    """The one output of a model, whatever its exporter called it."""
    (output,) = result.values()
    return output
