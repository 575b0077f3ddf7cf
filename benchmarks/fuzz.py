"""Every parser of foreign or operator's bytes, driven by a million inputs, and how its time grows with their length.

    python -m benchmarks.fuzz [--inputs 1000000] [--only PART] [--seed 1]          (make fuzz)

The parsers are those of tests/worlds/parsers.py. Each runs in a process of its own: with atheris, where it is
installed (`nestobs[fuzz]`), led by what it reaches in nestobs; else by random changes of its seeds. Those that take
milliseconds get a tenth of the inputs of the others. A failure is an exception that the parser may not raise, told once
a kind with its input in `--out`, or an input that takes longer than `LONGEST_S`.

Then each seed and each hard word is repeated to 32 kB and to twice that: where the doubled text takes more than four
times as long (and longer than a fifth of a second), the parser's time is not linear. All of it is processor time: what
a busy machine keeps a parser waiting is not the parser's.

Prints a table, writes OUT/fuzz.json, and ends with 1 where anything failed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LONGEST_S = 5.0
STUCK_S = 120.0
SLOWNESS = 10
SIZE = 32_768
WORST_RATIO, LEAST_S = 4.0, 0.2
LONGEST_INPUT = 8_192


@dataclass
class Tried:
    """What came of one parser."""

    inputs: int = 0
    seconds: float = 0.0
    slowest_s: float = 0.0
    ratio: float = 0.0
    failures: dict[str, str] = field(default_factory=dict)
    """Kind of failure -> the input, as Python writes it."""


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--inputs", type=int, default=1_000_000)
    words.add_argument("--only", default="", help="part of a parser's name")
    words.add_argument("--seed", type=int, default=1)
    words.add_argument("--jobs", type=int, default=os.cpu_count())
    words.add_argument("--out", type=Path, default=Path("runs/fuzz"))
    words.add_argument("--one", help=argparse.SUPPRESS)
    args = words.parse_args()
    if args.one:
        return _one(args)
    from worlds.parsers import PARSERS

    chosen = {name: parser for name, parser in PARSERS.items() if args.only in name}
    parts = {name: 1 if parser.slow else SLOWNESS for name, parser in chosen.items()}
    counts = {name: -(-args.inputs * part // sum(parts.values())) for name, part in parts.items()}
    args.out.mkdir(parents=True, exist_ok=True)
    began = time.monotonic()
    print(f"{'parser':34} {'inputs':>9} {'inputs/s':>9} {'slowest, s':>10} {'growth':>7}  failures")
    with ThreadPoolExecutor(args.jobs) as pool:
        found = {}
        for name, one in zip(chosen, pool.map(lambda name: _apart(args, name, counts[name]), chosen), strict=True):
            found[name] = one
            rate = one.inputs / one.seconds if one.seconds else 0.0
            said = f"{name:34} {one.inputs:9,} {rate:9,.0f} {one.slowest_s:10.3f} {one.ratio:7.1f}  {len(one.failures)}"
            print(said, *(f"    {kind}: {text[:160]}" for kind, text in one.failures.items()), sep="\n", flush=True)
    return _told(args.out, found, time.monotonic() - began)


def _told(out: Path, found: dict[str, Tried], elapsed_s: float) -> int:
    inputs, failures = sum(one.inputs for one in found.values()), sum(len(one.failures) for one in found.values())
    engine = "atheris" if importlib.util.find_spec("atheris") else "random changes"
    print(
        f"{inputs:,} inputs to {len(found)} parsers by {engine} in {elapsed_s:.0f} s"
        f" ({inputs / max(elapsed_s, 1e-9):,.0f}/s): {failures} failures"
    )
    told = {name: vars(one) for name, one in found.items()}
    (out / "fuzz.json").write_text(json.dumps({"engine": engine, "seconds": elapsed_s, "parsers": told}, indent=2))
    return 1 if failures else 0


# one parser, in a process of its own


def _apart(args: argparse.Namespace, name: str, inputs: int) -> Tried:
    """What came of it; a process that ends before it has said so is a failure."""
    with tempfile.TemporaryDirectory() as folder:
        words = [sys.executable, "-m", "benchmarks.fuzz", "--one", name, "--inputs", str(inputs), "--out", folder]
        done = subprocess.run(
            [*words, "--seed", str(args.seed)], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, check=False
        )
        said = Path(folder) / "tried.json"
        if said.exists():
            return Tried(**json.loads(said.read_text()))
        return Tried(failures={f"ended with {done.returncode}": done.stderr[-2_000:].decode("utf-8", "replace")})


def _one(args: argparse.Namespace) -> int:
    atheris: Any = importlib.import_module("atheris") if importlib.util.find_spec("atheris") else None
    if atheris is None:
        from worlds.parsers import PARSERS
    else:
        with atheris.instrument_imports(include=["nestobs"]):
            from worlds.parsers import PARSERS
    parser, tried = PARSERS[args.one], Tried()
    with parser.opened() as read:

        def attempt(data: bytes) -> float:
            signal.setitimer(signal.ITIMER_PROF, STUCK_S)  # ends the process: it would be at it for ever
            began = time.process_time()
            try:
                read(data)
            except parser.allowed:
                pass
            except Exception as error:
                at = traceback.extract_tb(error.__traceback__)[-1]
                tried.failures.setdefault(f"{type(error).__name__} at {Path(at.filename).name}:{at.lineno}", repr(data))
            took_s = time.process_time() - began
            tried.slowest_s = max(tried.slowest_s, took_s)
            if took_s > LONGEST_S:
                tried.failures.setdefault(f"longer than {LONGEST_S:g} s", repr(data[:2_000]))
            return took_s

        def end() -> None:
            (args.out / "tried.json").write_text(json.dumps(vars(tried)))

        began = time.monotonic()

        def count(data: bytes) -> None:
            attempt(data)
            tried.inputs += 1
            if tried.inputs >= args.inputs:
                tried.seconds = time.monotonic() - began
                tried.ratio = _growth(parser, attempt, tried)
                end()
                os._exit(0)  # libFuzzer would go on, and ends no other way

        if atheris is None:
            _changed(parser, count, random.Random(f"{args.one}{args.seed}"))
        else:
            _led(atheris, parser, count, args)
    return 1


def _growth(parser: Any, attempt: Any, tried: Tried) -> float:
    """The worst ratio of the times of a text and of one twice as long, of those that are long enough to be measured."""
    from worlds.parser import repeated

    worst = 0.0
    for piece in repeated(parser):
        texts = [piece * (size // len(piece) + 1) for size in (SIZE, 2 * SIZE)]
        once, twice = (min(attempt(text.join(parser.frame)) for _ in range(3)) for text in texts)
        if twice > LEAST_S:
            worst = max(worst, twice / once)
            if twice > WORST_RATIO * once:
                tried.failures.setdefault("time grows faster than length", repr(piece[:200]))
    return worst


def _changed(parser: Any, count: Any, rng: random.Random) -> None:
    from worlds.parser import mutated

    while True:
        edits = [(rng.randrange(7), rng.randrange(2**16), rng.randrange(2**16)) for _ in range(rng.randrange(9))]
        count(mutated(parser, rng.randrange(len(parser.seeds)), edits))


def _led(atheris: Any, parser: Any, count: Any, args: argparse.Namespace) -> None:
    """By libFuzzer, from the seeds and with the words as its dictionary."""
    from worlds.parser import WORDS

    corpus, words = args.out / "corpus", args.out / "words"
    corpus.mkdir()
    for number, seed in enumerate(parser.seeds):
        (corpus / str(number)).write_bytes(seed)
    spelled = ["".join(f"\\x{byte:02x}" for byte in word) for word in (*WORDS, *parser.words) if 0 < len(word) <= 64]
    words.write_text("".join(f'"{word}"\n' for word in spelled))
    longest = max(LONGEST_INPUT, *map(len, parser.seeds))
    options = (f"-seed={args.seed}", f"-dict={words}", f"-max_len={longest}", "-timeout=86400", "-rss_limit_mb=4096")
    atheris.Setup([sys.argv[0], *options, "-verbosity=0", str(corpus)], count)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
