"""What reads bytes of others, as data: a parser, the bytes it is started from, and how those are changed.

A parser takes any bytes and gives something, or raises one of the errors that are `allowed`: an operator's own mistake
is a NestobsError, a stranger's bytes mostly give a value whatever they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field

from nestobs.errors import NestobsError
from nestobs.observation.schema import COLUMNS, Observation, as_row, from_row

Read = Callable[[bytes], object]

WORDS: tuple[bytes, ...] = (
    *(
        b"",
        b" ",
        b"\t",
        b"\n",
        b"\r\n",
        b"\0",
        b"\x1b[2J",
        b"\x7f",
        b'"',
        b'\\"',
        b"'",
        b",",
        b";",
        b"=",
        b":",
        b"/",
        b"%",
    ),
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b"(",
        b")",
        b"<",
        b">",
        b".",
        b"-",
        b"+",
        b"e",
        b"_",
        b"#",
        b"@",
        b"&",
        b"|",
        b"?",
        b"\\",
    ),
    *(b"0", b"-1", b"1.5", b"1e400", b"-1e400", b"1e-400", b"NaN", b"Infinity", b"nan", b"inf", b"null", b"true"),
    *(b"2147483648", b"9223372036854775807", b"9223372036854775808", b"18446744073709551616", b"99999999999"),
    *(b"9" * 400, b"9" * 5_000, b"1_0", b"0x" + b"f" * 400, b"\xc2\xb2", b"\xd9\xa3", b"\xef\xbc\x91", b"\xe2\x91\xa0"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xc0\x80", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b"\xf4\x8f\xbf\xbf", b"\x80"),
    *(b"\xe2\x80\xae", b"\xe2\x80\xa8", b"\xc2\x85", b"\x1c", b"%00", b"%ff", b"%2e%2e%2f", b"\xc7\xb0", b"\xc4\xb0"),
    *(
        b"0001-01-01T00:00:00+23:59",
        b"9999-12-31T23:59:59-23:59",
        b"1677-09-21",
        b"2262-04-12",
        b"2026-02-30",
        b"24:00",
    ),
    *(b"Thu, 01 Jan 0001 00:00:00 +2359", b"Fri, 31 Dec 9999 23:59:59 -2359", b"Sat, 01 Jan 10000 00:00:00 GMT"),
    *(b"[" * 2_000, b'{"a":' * 2_000, b"(" * 300, b"a." * 300, b"\\" * 500, b"," * 500, b'";' * 300, b"<script>"),
)
"""What is hard on one parser or another: it is tried on all."""


@dataclass(frozen=True, slots=True)
class Parser:
    """opened: gives what reads, for as long as it is entered. seeds: real bytes. words: what its grammar is made of.
    frame: how a long text of one thing is made a text that it reads on: what stands before it and after it."""

    name: str
    opened: Callable[[], AbstractContextManager[Read]]
    seeds: tuple[bytes, ...]
    allowed: tuple[type[Exception], ...] = ()
    words: tuple[bytes, ...] = ()
    frame: tuple[bytes, bytes] = (b"", b"")
    slow: bool = field(default=False)
    """It takes milliseconds."""


def parser(
    name: str,
    read: Read,
    *seeds: str | bytes,
    allowed: tuple[type[Exception], ...] = (),
    words: str = "",
    **more: object,
) -> Parser:
    """A parser that needs nothing beside it. words: separated by blanks."""
    pieces = tuple(word.encode() for word in words.split())
    opened = more.pop("opened", lambda: nullcontext(read))
    return Parser(name, opened, bytes_of(seeds), allowed, pieces, **more)  # type: ignore[arg-type]  # as given


def bytes_of(seeds: Iterable[str | bytes]) -> tuple[bytes, ...]:
    """Texts in UTF-8."""
    return tuple(seed.encode("utf-8", "surrogatepass") if isinstance(seed, str) else seed for seed in seeds)


OPERATOR = (NestobsError,)


def text_of(data: bytes) -> str:
    """As the operating system gives an argument that is no UTF-8: with lone surrogates."""
    return data.decode("utf-8", "surrogateescape")


def on_text(function: Callable[[str], object]) -> Read:
    """What reads a text, on bytes."""
    return lambda data: function(text_of(data))


def storable(row: Observation) -> Observation:
    """The row, which a store can keep: text in UTF-8, whole numbers of 64 bits, and it is read back equal."""
    kept = dict(zip((column.name for column in COLUMNS), as_row(row), strict=True))
    for name, value in kept.items():
        if isinstance(value, str):
            value.encode()
            assert len(value) <= 20_000, name
        elif isinstance(value, int):
            assert -(2**63) <= value < 2**63, name
    assert from_row(kept) == row
    return row


Edit = tuple[int, int, int]
"""Which change, where (of 2 ** 16 parts of the whole), and of what."""


def mutated(parser: Parser, seed: int, edits: Iterable[Edit]) -> bytes:
    """A seed of the parser, changed: words put in, parts taken out, repeated or of another seed, bytes changed."""
    data = parser.seeds[seed % len(parser.seeds)]
    words = (*WORDS, *parser.words)
    for kind, where, what in edits:
        at, size = where * (len(data) + 1) >> 16, 1 << (what % 8)
        before, after = data[:at], data[at:]
        match kind % 7:
            case 0 | 1:
                data = before + words[what % len(words)] + after
            case 2:
                data = before + words[what % len(words)] + after[size:]
            case 3:
                data = before + after[size:]
            case 4:
                data = before + after[:size] * (2 << (what % 5)) + after
            case 5:
                data = before + bytes([what % 256]) + after[1:]
            case 6:
                other = parser.seeds[what % len(parser.seeds)]
                data = before + other[where * (len(other) + 1) >> 16 :]
    return data[:MOST_BYTES]


MOST_BYTES = 100_000


def repeated(parser: Parser) -> Iterator[bytes]:
    """What is repeated to see how long a parser takes over ever more of it."""
    yield from (piece for piece in dict.fromkeys((*WORDS, *parser.words, *parser.seeds)) if piece)
