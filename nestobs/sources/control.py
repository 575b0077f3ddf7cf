"""Is it them or us? When a target cannot be reached, a control target is tried; if that fails too, it is our network.

The control is a TCP address that has nothing to do with the deployment (`control = "host:port"` of a target). It is
tried when an attempt fails before any answer came, at most once in `QUIET_S`. A control that cannot be reached either
leaves a `probe_error` row, which marks the intervals around it; the attempt's own row stays `unknown`. A control that
could not even be tried (no file descriptor left) says so, and nothing of the network.
"""

from __future__ import annotations

import asyncio
import re
from typing import Final

from nestobs.errors import UsageError
from nestobs.observation.duration import SECOND_NS
from nestobs.observation.schema import Failure, FailureLayer, Observation, Operation, Outcome, Source
from nestobs.sources.clock import patience
from nestobs.sources.failures import Judgement, held_up, named
from nestobs.sources.vantage import NO_TRACE, Vantage

QUIET_S: Final = 2.0
TIMEOUT_S: Final = 3.0
_UNREACHED: Final = frozenset({Failure.DNS, Failure.UNREACHABLE, Failure.TIMEOUT, Failure.RESET, Failure.REFUSED})


class Control:
    """Tries the control address when rows say that something else could not be reached. Raises UsageError for
    an address that is none."""

    def __init__(self, vantage: Vantage, address: str) -> None:
        host, _, port = address.rpartition(":")
        if not host or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
            raise UsageError(f"the control address {address[:60]!r} is not host:port")
        self._vantage, self._host, self._port = vantage, host.strip("[]"), int(port)
        self._tried_at = 0
        self._trying: asyncio.Task[None] | None = None

    def consider(self, row: Observation) -> None:
        """Look at one row; try the control if it asks for that. Returns at once."""
        asks = row.outcome is Outcome.UNKNOWN and row.status is None and row.failure in _UNREACHED
        quiet = row.sent_at - self._tried_at < QUIET_S * SECOND_NS
        if asks and not quiet and (self._trying is None or self._trying.done()):
            self._tried_at = self._vantage.clock.now()
            self._trying = asyncio.create_task(self._try(), name="control")

    async def close(self) -> None:
        """End a try that is under way."""
        if self._trying is not None:
            self._trying.cancel()
            await asyncio.gather(self._trying, return_exceptions=True)

    async def _try(self) -> None:
        clock = self._vantage.clock
        sent_at = clock.now()
        try:
            async with patience(asyncio.get_running_loop().time() + TIMEOUT_S):
                _, writer = await asyncio.open_connection(self._host, self._port)
            writer.close()
        except Exception as error:  # whatever it is, it has a name
            why = named(error, stage=FailureLayer.TCP, timeout_s=TIMEOUT_S)
            if why.outcome is not Outcome.PROBE_ERROR:
                held = self._vantage.watch.held(sent_at, TIMEOUT_S, threads=True)
                why = _NO_NETWORK if held is None else held_up(held, why.reason)
            self._vantage.record(
                NO_TRACE,
                sent_at=sent_at,
                received_at=clock.now(),
                source=Source.CLOCK,
                target=f"tcp://{self._host}:{self._port}",
                operation=Operation.STEP,
                timeout_s=TIMEOUT_S,
                **why._asdict(),
            )


_NO_NETWORK: Final = Judgement(
    Outcome.PROBE_ERROR,
    Failure.NO_NETWORK,
    FailureLayer.PROBER,
    "the control target cannot be reached either: our own network failed",
)
