"""Whether a plan's memory fits, in numbers, before its contexts are made. Pure."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PlanNeeds:
    """What a plan needs of the device, in bytes.

    `weights` are taken once. Each of `lanes` needs `scratch` in all, of which it has `had`
    already for other models, and `tensors` for the largest batch's inputs and outputs.
    """

    weights: int
    lanes: int
    scratch: int
    had: int
    tensors: int

    @property
    def each_lane(self) -> int:
        """What each lane needs on top of what it has."""
        return max(0, self.scratch - self.had) + self.tensors

    def lacking(self, device: str, free: int, *, loaded: bool) -> str:
        """Why it does not fit in what is free; empty if it does. `loaded`: its weights are
        there already."""
        needed = self.lanes * self.each_lane + (0 if loaded else self.weights)
        if needed <= free:
            return ""
        shared = f", of which it has {min(self.had, self.scratch):,}" if self.had else ""
        return (
            f"{device} has too little memory for it: {needed:,} bytes are needed"
            f"{' besides its weights' if loaded else ''} and {free:,} are free. Its weights take "
            f"{self.weights:,}, and each of {self.lanes} lanes needs {self.scratch:,} of scratch "
            f"memory{shared}, and {self.tensors:,} for inputs and outputs"
        )


CURE = (
    "Set fewer lanes, build it with smaller largest shapes or in several plans (--split), or "
    "serve fewer models"
)
