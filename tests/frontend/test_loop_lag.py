"""How late a front end's event loop comes to what is due."""

import asyncio

from trtserve.clock import NS_PER_MS, NS_PER_S
from trtserve.frontend.lag import EVERY_SECONDS, LoopLag
from trtserve.metrics import LATENCY_EDGES, Histogram
from trtserve.testing.clock import FakeClock


def test_the_delay_of_each_alarm_is_counted():
    clock, seen = FakeClock(), Histogram(LATENCY_EDGES)
    lag = LoopLag(seen, clock.now_ns)

    async def run():
        loop = asyncio.get_running_loop()
        lag.start(loop)
        for late_ms in (0, 40, -1):
            clock.advance(int(EVERY_SECONDS * NS_PER_S) + late_ms * NS_PER_MS)
            lag.ring(loop)
        lag.stop()
        lag.stop()

    asyncio.run(run())
    assert sum(seen.counts) == 3
    assert seen.total == 0.04


class Seen(Histogram):
    """Tells when two alarms were counted."""

    def __init__(self):
        super().__init__(LATENCY_EDGES)
        self.two = asyncio.Event()

    def observe(self, value, times=1):
        super().observe(value, times)
        if sum(self.counts) == 2:
            self.two.set()


def test_it_rings_by_itself_until_it_is_stopped():
    async def run():
        seen = Seen()
        lag = LoopLag(seen)
        lag.start(asyncio.get_running_loop())
        await asyncio.wait_for(seen.two.wait(), 20)
        lag.stop()
        return seen.total

    assert 0 < asyncio.run(run()) < 20
