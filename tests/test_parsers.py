"""Whatever a stranger sends or an operator names: every parser gives something, or the error that it may raise.

The table of parsers is worlds/parsers.py; `make fuzz` drives the same with a million inputs.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nestobs
from worlds.parser import WORDS, Parser, mutated
from worlds.parsers import PARSERS

pytestmark = pytest.mark.slow

PACKAGE = Path(nestobs.__file__).parent
EXAMPLES, EXAMPLES_IF_SLOW = 250, 25

DECODE = {
    *("loads", "fromisoformat", "parsedate_to_datetime", "FromString", "decompress", "decompressobj", "b64decode"),
    *("literal_eval", "from_bech32", "ip_address", "urlsplit", "parse_uri", "reads", "fromtimestamp"),
}
"""Functions that make something of foreign bytes, by the last part of their names."""

ROOMS = ("nostr", "config", "observation", "join", "timeline", "tuning", "sources", "store", "collector")
"""Those that read what others wrote; the rest reads what these made of it, or what the table names."""

ELSEWHERE = {
    "kinds_at": "asks the name service",
    "hear": "lines of our own process",
    **dict.fromkeys(("_manifests", "_shipped", "_damaged"), "what our own command prints"),
    **dict.fromkeys(("_clock", "_at", "_utc", "_caught_up"), "our own instants"),
}
"""Not driven here, and why."""

edits = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1)), max_size=8)


@pytest.fixture(scope="module", params=PARSERS.values(), ids=PARSERS)
def parser(request: pytest.FixtureRequest) -> Parser:
    return request.param


@pytest.fixture
def read(parser):
    with parser.opened() as reading:
        yield reading


def test_a_parser_reads_what_it_is_started_from(parser, read):
    """At least one of its seeds is read without an error: else mutations of them would try next to nothing."""
    given = []
    for seed in parser.seeds:
        with suppress(*parser.allowed):
            given.append(read(seed))
    assert given


def test_a_parser_takes_every_hard_word(parser, read):
    for word in (*WORDS, *parser.words)[:: 15 if parser.slow else 1]:
        for data in (word, parser.seeds[0] + word, word + parser.seeds[-1], word.join(parser.frame)):
            with suppress(*parser.allowed):
                read(data)


def test_a_parser_takes_whatever_becomes_of_real_bytes(parser, read):
    @settings(derandomize=True, database=None, max_examples=EXAMPLES_IF_SLOW if parser.slow else EXAMPLES)
    @given(st.integers(0, len(parser.seeds) - 1), edits)
    def tried(seed, changes):
        with suppress(*parser.allowed):
            read(mutated(parser, seed, changes))

    tried()


def test_every_function_that_decodes_is_driven():
    """Each function of these rooms that decodes bytes or text is entered when the seeds are read."""
    entered: set[tuple[str, int]] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(str(PACKAGE)):
            entered.add((frame.f_code.co_filename, frame.f_code.co_firstlineno))

    for parser in PARSERS.values():
        sys.setprofile(note)
        try:
            with parser.opened() as read:
                for seed in parser.seeds:
                    with suppress(*parser.allowed):
                        read(seed)
        finally:
            sys.setprofile(None)
    missed = [
        f"{path.relative_to(PACKAGE)}: {name}" for path, name, at in _decoding() if (str(path), at) not in entered
    ]
    assert not missed, "\n".join(missed)


def _decoding() -> Iterator[tuple[Path, str, int]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if path.relative_to(PACKAGE).parts[0].removesuffix(".py") not in ROOMS:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                calls = (each.func for each in ast.walk(node) if isinstance(each, ast.Call))
                names = {ast.unparse(call).rpartition(".")[2] for call in calls}
                if names & DECODE and node.name not in ELSEWHERE:
                    yield path, node.name, min([node.lineno, *(each.lineno for each in node.decorator_list)])
