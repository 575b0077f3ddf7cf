"""What each relay made of the event of a throwaway room. Pure.

OK true is no proof of storage: a relay that took the event is asked for it until the looks are over. What it does not
show then it has dropped, or stores later than anybody waits for it: both are named, the likelier first.
"""

from __future__ import annotations

from functools import partial

from nestobs.collector.doctor.room import Tried
from nestobs.collector.doctor.steps import Log, Step, answer
from nestobs.diagnosis import Cause
from nestobs.observation.schema import Failure, Outcome


def published(tried: Tried, log: Log) -> list[Step]:
    """One step for all relays that show the event, and one for each that does not."""
    steps = [_on(url, tried, log) for url in tried.relays()]
    good, others = (_of(steps, good=True), _of(steps, good=False))
    said = f"{len(good)} of {len(steps)} relays took the event and show it"
    return [*([Step(name="publish", state="good", said=said)] if good else []), *others]


def _of(steps: list[Step], *, good: bool) -> list[Step]:
    return [step for step in steps if (step.state == "good") is good]


def _on(url: str, tried: Tried, log: Log) -> Step:
    taken, *looks = tried.of(url)
    last = looks[-1] if looks else taken
    step = partial(
        Step,
        name="publish",
        asked=f"EVENT (kind 30312), then REQ, at {url}",
        answered=answer(last),
        should="OK true, and the event to who asks for it",
        evidence=log.cite([taken, *looks]),
    )
    cause, said = Cause.RELAY_UNREACHABLE, f"{url}: {last.reason}"
    if last.outcome is Outcome.VISIBLE:
        return Step(name="publish", state="good", said=f"{url} shows it")
    if last.outcome is Outcome.PROBE_ERROR:
        return step(state="unsaid", said=said, cause=Cause.OBSERVER_FAULT)
    if Failure.AUTH_REQUIRED in (taken.failure, last.failure):
        cause, said = Cause.RELAY_WANTS_AUTH, f"{url} wants to know who asks (NIP-42), and not us: {last.reason}"
    elif taken.outcome is Outcome.REFUSED:
        cause, said = Cause.RELAY_REJECTED, f"{url} refuses the event: {taken.reason}"
    elif last.outcome is Outcome.REFUSED:
        said = f"{url} took the event, and answers no question: {last.reason}"
    elif last.outcome is Outcome.ABSENT and taken.outcome is Outcome.ACCEPTED:
        said = f"{url} said OK, and does not show the event at {log.age_s(last):.1f} s: dropped, or stored later"
        return step(state="bad", said=said, cause=Cause.RELAY_DROPPED, or_else=Cause.RELAY_DELAY)
    return step(state="bad", said=said, cause=cause)
