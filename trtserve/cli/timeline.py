"""`trtserve timeline`: what a running daemon's devices do, as a picture and in figures."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from rich.progress import BarColumn, Progress, TextColumn

from trtserve.cli.connection import DEFAULT_ADDRESS, Address, Json, connect
from trtserve.cli.output import console, print_json, print_line, print_table
from trtserve.clock import NS_PER_S
from trtserve.errors import ConfigurationError

if TYPE_CHECKING:
    from trtserve.cli.trace_summary import DeviceSummary
    from trtserve.client import Client, TracedBatch

VIEWER = "https://ui.perfetto.dev"


@dataclass(frozen=True, slots=True)
class Recording:
    """All that came, with the server's times of beginning and end."""

    batches: list["TracedBatch"]
    start_ns: int
    end_ns: int
    missed: int


def timeline(
    seconds: Annotated[float, typer.Option(help="How long to record; at most 60.")] = 2.0,
    output: Annotated[Path, typer.Option(
        help="The trace to write, as JSON that Perfetto and Chrome open.",
    )] = Path("trace.json"),
    address: Address = DEFAULT_ADDRESS,
    json: Json = False,
) -> None:
    """Record what the lanes of a running daemon do, and say how busy the devices are.

    It shows traffic and makes none: send requests meanwhile.
    """
    # Here and not above: see connect().
    from trtserve.cli.trace_events import chrome_trace
    from trtserve.cli.trace_summary import summarize

    if not output.parent.is_dir():
        raise ConfigurationError(
            f"there is no folder {output.parent}", where="--output", cure="Make it first"
        )
    with connect(address) as client:
        recording = record(client, seconds)
    write(output, chrome_trace(recording.batches, recording.start_ns))
    devices = summarize(recording.batches, recording.start_ns, recording.end_ns)
    recorded = (recording.end_ns - recording.start_ns) / NS_PER_S
    if json:
        print_json({
            "file": str(output), "seconds": recorded, "missed": recording.missed,
            "devices": devices,
        })
    else:
        _print(devices, recorded, recording.missed)
        print_line(f"wrote {output}: open it at {VIEWER}")


def record(client: "Client", seconds: float) -> Recording:
    """Record, with a progress bar if somebody sits at a terminal."""
    out = console(stderr=True)
    batches: list[TracedBatch] = []
    start = end = missed = 0
    columns = (
        TextColumn("recording"), BarColumn(),
        TextColumn("{task.completed:.1f} of {task.total:g} s, {task.fields[batches]} batches"),
    )
    with Progress(
        *columns, console=out, transient=True, disable=not out.is_terminal
    ) as progress:
        task = progress.add_task("", total=seconds, batches=0)
        for part in client.timeline(seconds):
            start, end = start or part.now_ns, part.now_ns
            batches += part.batches
            missed += part.missed
            progress.update(task, completed=(end - start) / NS_PER_S, batches=len(batches))
    return Recording(batches, start, end, missed)


def write(path: Path, trace: object) -> None:
    """Write a trace. Raises ConfigurationError where that is not possible."""
    try:
        path.write_bytes(msgspec.json.encode(trace))
    except OSError as error:
        raise ConfigurationError(
            f"{path} can not be written: {error.strerror}", where="--output",
            cure="Choose another file",
        ) from error


def _print(devices: list["DeviceSummary"], seconds: float, missed: int) -> None:
    from trtserve.cli.trace_summary import gathers_itself

    if devices:
        print_table(
            ("device", "batches", "requests", "rows", "padded", "copy in", "compute", "copy out",
             "hidden"),
            [
                (d.device, d.batches, d.requests, d.rows, _percent(d.padded),
                 _percent(d.copy_in_busy), _percent(d.compute_busy), _percent(d.copy_out_busy),
                 _percent(d.copies_hidden))
                for d in devices
            ],
            title=f"{seconds:.2f} s: how busy, and how much copying was hidden under computing",
        )
        for d in devices:
            if d.failed:
                print_line(f"{d.failed} of the batches on {d.device} failed: see the trace.")
        if any(gathers_itself(d.device) for d in devices):
            print_line("On cpu, copy in is the gathering of inputs: nothing is copied to it.")
    else:
        print_line(f"Nothing ran in these {seconds:.2f} s: send requests meanwhile.")
    if missed:
        print_line(f"{missed} batches are missing: they came quicker than this command read.")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f} %"
