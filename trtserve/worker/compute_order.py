"""How many lanes compute at once, so that the others copy meanwhile.

Lanes whose batches are of a kind fall into step: they share the device's compute, so they end
together, copy together, and nothing is hidden under anything. On an H200 a worker with three lanes,
of which two were in use and ran in step, made 0.85 of the images a second that computing alone
allows (ResNet50, 7,372 to 7,442). So one lane fewer than there are computes at a time: the one
left over copies in, and its computing begins when the first of the others ends.
"""

from collections import deque

from trtserve.device.interface import Event


class ComputeOrder:
    """Shared by the lanes of a device, each in its thread. `slots`: how many compute at once.

    Waiting is the device's: a stream is held back by an event. What is waited for was queued
    before, so nothing ever waits in a circle. Two lanes that enter at the same moment may both
    see the same one before them; then one more computes, which harms nothing.
    """

    def __init__(self, slots: int) -> None:
        self._entered: deque[Event] = deque(maxlen=slots)

    @classmethod
    def of(cls, lanes: int) -> "ComputeOrder | None":
        """The order for so many lanes. None for one or two: with one at a time a long batch would
        hold up every short one."""
        return cls(lanes - 1) if lanes > 2 else None

    def before(self) -> Event | None:
        """What the next batch's computing has to wait for."""
        entered = self._entered
        return entered[0] if len(entered) == entered.maxlen else None

    def entered(self, computed: Event) -> None:
        """A batch's computing is queued, and so is the event of its end."""
        self._entered.append(computed)
