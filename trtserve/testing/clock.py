"""A clock that moves only when told."""


class FakeClock:
    """Nanoseconds since its start. Pass `now_ns` where a clock is wanted."""

    def __init__(self, start_ns: int = 0) -> None:
        self._now_ns = start_ns

    def now_ns(self) -> int:
        """The present, in nanoseconds."""
        return self._now_ns

    def advance(self, ns: int) -> int:
        """Let `ns` nanoseconds pass. Returns the new present. Raises ValueError for a negative
        number: this clock, like the real one, never goes back."""
        if ns < 0:
            raise ValueError(f"a clock does not go back: {ns} ns")
        self._now_ns += ns
        return self._now_ns

    def advance_to(self, ns: int) -> int:
        """Let time pass until `ns`, if that is still to come. Returns the present."""
        return self.advance(max(0, ns - self._now_ns))
