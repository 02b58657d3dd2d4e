"""What a device's driver says about it, in a form that every device can give."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Vital:
    """One value: a metric's name and, where it has one, the last label's value."""

    name: str
    value: float
    label: str = ""


@dataclass(frozen=True, slots=True)
class Vitals:
    """Everything that was read at one moment, and the errors counted since the beginning."""

    uuid: str
    values: tuple[Vital, ...]
    errors: tuple[tuple[str, int], ...] = ()
    """(NVIDIA's Xid number, how often)."""
