"""A gRPC call's context as far as a Call reads it."""


class Context:
    """Has metadata, and counts how often it is read."""

    def __init__(self, *metadata: tuple[str, str | bytes]) -> None:
        self.metadata = metadata
        self.reads = 0

    def invocation_metadata(self) -> tuple[tuple[str, str | bytes], ...] | None:
        self.reads += 1
        return self.metadata or None
