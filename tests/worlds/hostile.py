"""Names that strangers could publish to hurt who reads them, and rows in which everything is named so."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from nestobs.observation.schema import Observation
from worlds.full_nests import NOON, SECOND_NS, Names, nest_rows, rows_of_days

MEGABYTE = 1_000_000

TEXTS = (
    "<script>window.hacked=1</script>",
    "</script><script>window.hacked=1</script>",
    "<img src=x onerror=window.hacked=1>",
    "'\"><svg onload=window.hacked=1>",
    "--><a href=javascript:window.hacked=1>x</a>",
    "{{7*7}}{{7777*7777}}{%raw%}${7777*7777}",
    "$x$ \\(x\\) `x` **x** [x](http://x.invalid)",
    "\u202egnp.exe",
    "\x1b[2J\x1b]0;x\x07\x00\x07 control",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 nest \U0001f399\ufe0f",
    '=HYPERLINK("http://x.invalid")',
    "+1+cmd|' /C calc'!A0",
    "@SUM(1)",
    "-2+3",
    "\ud800 alone",
    "W" * 300,
)
"""`window.hacked` is set by whatever runs one of them; 60481729 appears where a template or a script evaluates one."""

EVALUATED = "60481729"
UNPRINTED = ("\u202e", "\x1b", "\x07", "\x00")
"""What no reader's screen may get."""


def names(text: str, number: int = 0) -> Names:
    """Everything of one nest and about it called `text`: URLs hold it where URLs can."""
    return Names(
        room=text,
        trace=f"{text}-{number}",
        vantages=(text, "Computer B"),
        relays=(f"wss://relay.example/{text}", f"wss://{text}/"),
        api=f"https://{text}/api/v1/nests",
        livekit=f"wss://{text}",
        software=text,
        reason=text,
        message=text,
        policy=text,
        more={text: text, "status": text, "relays": [text], "info": {"host": text, text: text}},
    )


def hostile_rows(usual: int = 16) -> Iterator[Observation]:
    """A nest for each of `TEXTS`, one with a name of a megabyte, and on each of two days so many usual ones, so that
    there is something to compare and enough to tune on."""
    yield from rows_of_days(usual, 2)
    later = NOON + usual * 30 * SECOND_NS
    for place, text in enumerate(TEXTS):
        number = 2 * usual + place
        yield from nest_rows(number, names(text, number), at=later + place * 30 * SECOND_NS)
    long = nest_rows(9_999, Names(room="M" * MEGABYTE, trace="long"), at=later + len(TEXTS) * 30 * SECOND_NS)
    yield from islice(long, 20)
