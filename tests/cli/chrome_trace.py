"""What the Chrome trace format asks of each kind of event, and of what lies on one track."""

from collections import defaultdict
from itertools import pairwise
from typing import Any

REQUIRED = {
    "M": {"name": str, "pid": int, "tid": int, "args": dict},
    "X": {"name": str, "cat": str, "ts": float, "dur": float, "pid": int, "tid": int, "args": dict},
    "i": {"name": str, "ts": float, "pid": int, "tid": int, "s": str},
    "C": {"name": str, "ts": float, "pid": int, "args": dict},
    "b": {"name": str, "cat": str, "id": str, "ts": float, "pid": int, "tid": int},
    "e": {"name": str, "cat": str, "id": str, "ts": float, "pid": int, "tid": int},
}

Events = list[dict[str, Any]]


def checked(trace: dict[str, Any]) -> dict[str, Events]:
    """The events by their phase; fails the test where the trace is not valid."""
    assert set(trace) == {"traceEvents", "displayTimeUnit"}
    found: dict[str, Events] = defaultdict(list)
    last = 0.0
    for event in trace["traceEvents"]:
        for key, kind in REQUIRED[event["ph"]].items():
            wanted = (int, float) if kind is float else kind
            assert isinstance(event[key], wanted), (key, event)
        assert event["ts"] >= last, "events are in the order of their times"
        last = event["ts"]
        found[event["ph"]].append(event)
    tracks = defaultdict(list)
    for event in found["X"]:
        assert event["dur"] > 0
        tracks[event["pid"], event["tid"]].append(event)
    for events in tracks.values():
        for one, other in pairwise(events):
            # To the nanosecond: these are sums of fractions.
            assert one["ts"] + one["dur"] <= other["ts"] + 1e-3, "events of a track overlap"
    open_waits = set()
    for event in sorted(found["b"] + found["e"], key=lambda event: (event["ts"], event["ph"])):
        wait = (event["cat"], event["id"], event["name"])
        if event["ph"] == "b":
            assert wait not in open_waits
            open_waits.add(wait)
        else:
            open_waits.remove(wait)
    assert not open_waits
    named = {
        (event["pid"], event["tid"]) for event in found["M"] if event["name"] == "thread_name"
    }
    assert tracks.keys() <= named
    return found


def track_names(found: dict[str, Events]) -> list[str]:
    """The names of all tracks in the order in which they are shown."""
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in found["M"]
             if e["name"] == "thread_name"}
    places = {(e["pid"], e["tid"]): e["args"]["sort_index"] for e in found["M"]
              if e["name"] == "thread_sort_index"}
    return [names[track] for track in sorted(names, key=lambda track: places[track])]
