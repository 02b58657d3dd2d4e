"""Reads text in pictures of eight sizes through the real daemon: `python -m examples.ocr.demo`.

Draws the pictures, starts the daemon on three OCR models, finds and reads the lines of text,
compares them with what was drawn, puts a short load on the models, and stops the daemon. Exits
with 1 if a text was read wrong or the daemon did not behave. `--serve` leaves it running until
Ctrl-C, for a look at /metrics.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from examples.ocr import images, models, pipeline
from examples.ocr.daemon import DaemonError, daemon
from examples.ocr.load import Measured, measure
from examples.ocr.reading import Comparison, Read, compare, read_pictures
from trtserve.client import AsyncClient, InferenceError
from trtserve.clock import NS_PER_S, now_ns

LOAD = {"det": 48, "cls": 140, "rec": 140}
"""Requests to each model."""

LOAD_SECONDS = 5.0
"""For each model at the most, however slow the machine is."""


def main() -> int:
    """Run the demo; gives the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--serve", action="store_true", help="keep the daemon until Ctrl-C")
    arguments = parser.parse_args()
    console = Console()
    try:
        with tempfile.TemporaryDirectory(prefix="trtserve-demo-") as folder:
            return _run(Path(folder), console, keep_serving=arguments.serve)
    except (DaemonError, InferenceError, FileNotFoundError) as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130  # as shells say it


def _run(folder: Path, console: Console, *, keep_serving: bool) -> int:
    repository = models.build_repository(folder / "models")
    characters = pipeline.character_list(models.rec_characters())
    drawings = [images.draw(page) for page in images.PAGES]
    pictures = [picture for picture, _ in drawings]
    with daemon(repository, folder, console) as addresses:
        console.print(f"trtserve serves gRPC at {addresses['grpc']}")
        read, measured = asyncio.run(
            _use(str(addresses["grpc"]), pictures, characters, console)
        )
        comparisons = [
            compare(drawn, lines) for (_, drawn), lines in zip(drawings, read, strict=True)
        ]
        console.print(_text_table(comparisons))
        console.print(_load_table(measured))
        console.print(f"Metrics: http://{addresses['http']}/metrics")
        if keep_serving:
            _wait_for_interrupt(console)
    console.print("The daemon stopped with exit code 0.")
    return _verdict(comparisons, console)


async def _use(
    address: str, pictures: Sequence[np.ndarray], characters: list[str], console: Console
) -> tuple[list[list[Read]], list[Measured]]:
    """Read the pictures, then put the load on the three models, one after the other."""
    async with AsyncClient(address) as client:
        start = now_ns()
        read = await read_pictures(client, pictures, characters)
        console.print(
            f"{len(pictures)} pictures with {sum(map(len, read))} lines read in "
            f"{(now_ns() - start) / NS_PER_S:.2f} s"
        )
        lines = [line for page in read for line in page]
        inputs = {
            "det": [pipeline.det_input(picture) for picture in pictures],
            "cls": [line.cls_input for line in lines],
            "rec": [line.rec_input for line in lines],
        }
        measured = []
        for model, requests in LOAD.items():
            if not inputs[model]:  # nothing was found to read: the comparison will say so
                continue
            with console.status(f"A short load of mixed sizes on {model}"):
                measured += await measure(
                    client.infer, model, inputs[model], requests=requests,
                    seconds=LOAD_SECONDS,
                )
        return read, measured


def _text_table(comparisons: Sequence[Sequence[Comparison]]) -> Table:
    table = Table("picture", "size", "drawn", "read", "", title="Text")
    for page, lines in zip(images.PAGES, comparisons, strict=True):
        name = f"{page.name} (upside down)" if page.upside_down else page.name
        for index, line in enumerate(lines):
            mark = "[green]✓[/]" if line.right else "[red]✗[/]"
            heading = (name, page.size) if index == 0 else ("", "")
            table.add_row(*heading, Text(line.drawn), Text(line.read), mark)
        table.add_section()
    return table


def _load_table(measured: Sequence[Measured]) -> Table:
    table = Table(title="Load: mixed sizes, 16 requests in flight")
    for heading in ("model", "size"):
        table.add_column(heading)
    for heading in ("requests", "p50 ms", "p99 ms", "requests/s"):
        table.add_column(heading, justify="right")
    for index, row in enumerate(measured):
        table.add_row(
            row.model, row.size, str(row.requests), f"{row.p50:.1f}", f"{row.p99:.1f}",
            f"{row.throughput:.1f}",
            end_section=index + 1 < len(measured) and measured[index + 1].model != row.model,
        )
    return table


def _wait_for_interrupt(console: Console) -> None:
    console.print("The daemon keeps running; Ctrl-C stops it.")
    interrupted = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: interrupted.set())
    interrupted.wait()


def _verdict(comparisons: Sequence[Sequence[Comparison]], console: Console) -> int:
    wrong = [
        f"{page.name}: drawn '{line.drawn}', read '{line.read}'"
        for page, lines in zip(images.PAGES, comparisons, strict=True)
        for line in lines
        if not line.right
    ]
    for one in wrong:
        console.print(f"wrong text in {one}", style="red", markup=False, highlight=False)
    if not wrong:
        console.print(f"All {sum(map(len, comparisons))} lines were read as they were drawn.")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
