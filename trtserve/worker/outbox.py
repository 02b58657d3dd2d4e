"""Sending what channels have queued, without waiting for a socket that is full."""

import selectors

from trtserve.ipc.channel import Channel


class Outbox:
    """Watches a full socket until it takes more. `selector` watches the channels for reading."""

    def __init__(self, selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._blocked: set[Channel] = set()

    def send(self, channel: Channel) -> None:
        """Send what is queued, as far as the socket takes it; call again when it takes more."""
        if not channel.waiting:
            return
        blocked = channel in self._blocked
        if channel.flush() == blocked:
            both = selectors.EVENT_READ | selectors.EVENT_WRITE
            read = self._selector.get_key(channel).data
            self._selector.modify(channel, selectors.EVENT_READ if blocked else both, read)
            (self._blocked.discard if blocked else self._blocked.add)(channel)

    def forget(self, channel: Channel) -> None:
        """The selector watches the channel no more."""
        self._blocked.discard(channel)
