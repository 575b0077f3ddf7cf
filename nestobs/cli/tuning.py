"""The commands that tune: tune, replay, prove, policy. Words in, one call, an exit code out."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Final

from nestobs import __version__
from nestobs.cli.arguments import (
    Command,
    check_file,
    command,
    duration_between,
    flag,
    number_between,
    open_store,
    option,
    pathname,
    policy_name,
    scenario_name,
    whole_between,
    with_json,
    with_store,
)
from nestobs.cli.pool import processes, with_engine
from nestobs.cli.terminal import check, harmless, interruptible, show, teller
from nestobs.errors import StoreError, UsageError
from nestobs.observation.duration import SECOND_NS, duration_words, read_duration
from nestobs.observation.text import percent

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from nestobs.estimate.npmle import Number
    from nestobs.tuning.policy_file import PolicyFile


def _with_nests(parser: argparse.ArgumentParser) -> None:
    option(parser, "--window", "A/B", str, "only nests made from A to before B, ISO 8601, UTC; or on a day")
    option(parser, "--host", "HOST", str, "only nests of this API host", action="append", default=[])
    flag(parser, "--guest", "for guests; default: for those who are signed in")
    option(parser, "--seed", "N", whole_between(0, 2**63), "seed of resamples (default 0)", default=0)


def _add_tune(parser: argparse.ArgumentParser) -> None:
    option(parser, "--out", "FILE", pathname, "write the policy here (policy.json)")
    parser.add_argument(
        "--candidate",
        choices=("recommended", "tuned", "simple"),
        default="recommended",
        help="which policy --out writes (default: the recommended one)",
    )
    option(
        parser,
        "--cost-ratio",
        "R",
        number_between(1e-6, 1e6),
        'cost of a false "starting" over a false "gone" (0.25)',
        default=0.25,
    )
    option(
        parser,
        "--lost",
        "DURATION",
        duration_between(0.0, 1e6),
        "waiting that a lost join is worth (60s)",
        default=60.0,
    )
    option(parser, "--vain", "X", number_between(0.0, 1e6), "cost of a second waited in vain (0.05)", default=0.05)
    told = "how much of a seat a listener lacks who signed in, 0 to 1 (0.25)"
    option(parser, "--listener", "X", number_between(0.0, 1.0), told, default=0.25)
    option(parser, "--requests", "N", whole_between(1, 10**6), "requests the API allows a window (100)", default=100)
    option(
        parser,
        "--request-window",
        "DURATION",
        duration_between(0.001, 1e6),
        "length of that window (15min)",
        default=900.0,
    )
    option(
        parser, "--arrivals", "FILE", pathname, "ages at which people ask, seconds, a number a line (0 to 30 evenly)"
    )
    option(parser, "--joins", "N", number_between(1e-6, 1e6), "joins expected in a window (10)", default=10.0)
    option(parser, "--draws", "N", whole_between(100, 10_000), "resamples (500)", default=500)


@command(
    with_store,
    _with_nests,
    with_engine,
    with_json,
    _add_tune,
    examples=("tune --store example", "tune --window 2026-11-01/2026-11-08 --out policy.json"),
    exits="0 done, 1 too little data, 3 no engine, 5 store",
)
def tune(args: argparse.Namespace) -> int:
    """A defended threshold and polling policy from what was seen."""
    import numpy as np

    from nestobs.session import tune
    from nestobs.tuning.costs import Prices
    from nestobs.tuning.decisions import Allowance
    from nestobs.tuning.policy_file import dumps

    if args.out is not None:
        check_file(args.out)  # before the work, not after it
    store = open_store(args)
    tell = teller(args)
    with processes(store.count(), args.engine) as executor:
        found = tune(
            store,
            window=_window(args.window),
            host=args.host,
            arrivals=None if args.arrivals is None else ages_in(args.arrivals),
            signed_in=not args.guest,
            prices=Prices(0.1, 1.0, args.lost, never_cost=args.vain, listener_share=args.listener),
            allowance=Allowance(requests=args.requests, window_s=args.request_window, joins=args.joins),
            cost_ratio=args.cost_ratio,
            rng=np.random.default_rng(args.seed),
            draws=args.draws,
            engine=executor,
            progress=lambda said: tell("tune", {"said": said}),
        )
    if args.out is not None:
        policy = found.candidates()[args.candidate]
        file = found.file(policy, store_digest=store.digest(), made_at=_now(), nestobs=__version__)
        write(args.out, dumps(file))
    show(args, found.as_dict(), [*found.lines(), *([f"policy: {args.out}"] if args.out else [])])
    return 0


def _apart(number: Number, unit: float = 1.0) -> str:
    """A difference, whose ends may be negative."""
    value, low, high = (unit * end for end in (number.value, number.lower, number.upper))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


# replay


def _add_replay(parser: argparse.ArgumentParser) -> None:
    text = "policy files, or names such as fixed(2)"
    option(parser, "--policy", "FILE|NAME", policy_name, text, nargs="+", required=True)


@command(
    _add_replay,
    with_store,
    _with_nests,
    with_engine,
    with_json,
    examples=('replay --policy policy.json "fixed(2)" guide',),
    exits="0 done, 1 too little data, 3 no engine, 5 store",
)
def replay(args: argparse.Namespace) -> int:
    """What policies would have done on the nests observed."""
    import json

    import numpy as np

    from nestobs.join.policy import MANUAL_RETRY
    from nestobs.session import seen_in
    from nestobs.timeline.delays import median_s
    from nestobs.timeline.omissions import standing_words
    from nestobs.tuning.replay import replay, replay_lines

    policies = [policy_of(word).policy for word in args.policy]
    tell = teller(args)
    seen = seen_in(
        open_store(args),
        window=_window(args.window),
        host=args.host,
        engine=args.engine,
        progress=lambda said: tell("replay", {"said": said}),
    )
    lines_of = seen.timelines
    found = replay(
        policies,
        lines_of,
        baseline=MANUAL_RETRY,
        signed_in=not args.guest,
        round_trip_s=median_s(seen.trips),
        failures=seen.counted.failures(),
        rng=np.random.default_rng(args.seed),
    )
    lines = [
        f"{found[0].n} rows, blocks: {found[0].blocks}; ages of arrival: even from 0 to 30 s; today's rule first",
        *replay_lines(found),
    ]
    for one in found[1:]:
        gain = one.against["mean_delay_s"], one.against["lost_share"], one.against["requests_per_join"]
        lines.append(
            f"{one.policy.name} less {found[0].policy.name}: delay {_apart(gain[0])} s, "
            f"lost {_apart(gain[1], 100.0)} %, requests {_apart(gain[2])}; {percent(one.ambiguous)} of joins ambiguous"
        )
    lines += standing_words(lines_of)
    show(args, {"replays": json.loads(found.frame().to_json(orient="records"))}, lines)
    return 0


# herd


def _add_herd(parser: argparse.ArgumentParser) -> None:
    text = "a policy file, or a name such as fixed(2)"
    parser.add_argument("policy", metavar="FILE|NAME", type=policy_name, help=text)
    option(parser, "--joiners", "N", whole_between(1, 10**10), "how many people (1000000)", default=10**6)
    text = "when they come: uniform(30s), burst(2s), decay(60s), or a file of ages (uniform(30s))"
    option(parser, "--arrivals", "LAW|FILE", str, text, default="uniform(30s)")
    text = "when it can be joined: 5s, never, lognormal(4s,0.9,0.08), or a store, whose law it is (5s)"
    option(parser, "--joinable", "LAW|DIR", str, text, default="5s")
    text = "people per address: 20, or a mix such as 1:0.6,20:0.4 (1)"
    option(parser, "--behind", "N", str, text, default="1")
    option(parser, "--requests", "N", whole_between(1, 10**6), "requests the API allows an address (100)", default=100)
    text = "in a window of so long (15min)"
    option(parser, "--request-window", "DURATION", duration_between(0.001, 1e6), text, default=900.0)
    flag(parser, "--no-retry-after", "its 429 does not say when to ask again")
    flag(parser, "--guest", "for guests; default: for those who are signed in")
    option(parser, "--round-trip", "DURATION", duration_between(0.0, 1e6), "of a request (20ms)", default=0.02)
    option(parser, "--seed", "N", whole_between(0, 2**63), "seed of all chance (default 0)", default=0)


@command(
    _add_herd,
    with_json,
    examples=(
        "herd guide --joiners 10000000 --arrivals 'decay(60s)' --behind 20",
        "herd policy.json --joinable nestobs-data",
    ),
    exits="0 done, 1 too little data, 5 store",
)
def herd(args: argparse.Namespace) -> int:
    """Millions of joiners at an API that counts: peaks, lost joins."""
    import os
    from concurrent.futures import ThreadPoolExecutor
    from pathlib import Path

    from nestobs.session import herd

    tell = teller(args)
    is_store = args.joinable == "example" or Path(args.joinable).is_dir()
    with ThreadPoolExecutor(os.cpu_count() or 1) as executor:
        found = herd(
            policy_of(args.policy).policy,
            args.joiners,
            arrivals=ages_in(Path(args.arrivals)) if _is_file(Path(args.arrivals)) else args.arrivals,
            joinable=Path(args.joinable) if is_store else args.joinable,
            behind=args.behind,
            requests=args.requests,
            window_s=args.request_window,
            retry_after=not args.no_retry_after,
            signed_in=not args.guest,
            round_trip_s=args.round_trip,
            seed=args.seed,
            executor=executor,
            progress=lambda said: tell("herd", {"said": said}),
        )
    show(args, found.as_dict(), found.lines())
    return 0


# policy


def _add_policy_export(parser: argparse.ArgumentParser) -> None:
    text = "a policy file, or a name such as fixed(2)"
    parser.add_argument("policy", metavar="FILE|NAME", type=policy_name, help=text)
    parser.add_argument("--format", choices=("js", "vectors", "json", "npm"), required=True, help="what to write")
    option(parser, "--out", "FILE", pathname, "where to (default: standard output)")
    option(parser, "--to", "DIR", pathname, "folder of the npm package: new, empty, or one of these already")


@command(
    _add_policy_export,
    examples=("policy export policy.json --format js --out policy.js", "policy export guide --format npm --to client"),
    exits="0 done, 5 disk",
)
def export(args: argparse.Namespace) -> int:
    """Write a policy as a module or an npm package for web clients, as conformance vectors, or as a file."""
    from nestobs.exports import javascript
    from nestobs.tuning.policy_file import dumps

    file = policy_of(args.policy)
    if args.format == "npm":
        return _export_package(file, args)
    if args.to is not None:
        raise UsageError("--to is the folder of --format npm: name the file by --out")
    text = {"js": javascript.module, "vectors": javascript.vectors, "json": dumps}[args.format](file)
    if args.out is None:
        print(text, end="")
    else:
        write(args.out, text)
    return 0


def _export_package(file: PolicyFile, args: argparse.Namespace) -> int:
    from nestobs.exports.package import package

    if args.to is None or args.out is not None:
        raise UsageError("--format npm writes a folder: name it by --to DIR, without --out")
    _check_package_folder(args.to)
    for name, text in package(file).items():
        write(args.to / name, text, "--to")
    print(harmless(f"package: {args.to}"))
    return 0


def _check_package_folder(folder: Path) -> None:
    """Raise UsageError for what is there and was not written here: a project of its own would be overwritten."""
    import json

    from nestobs.exports.package import MARK
    from nestobs.store.files import text_in

    try:
        if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
            return
        found = json.loads(text_in(folder / "package.json"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or MARK not in found:
        raise UsageError(f"{folder} holds something else: give --to a new or an empty folder")


# prove


def _add_prove(parser: argparse.ArgumentParser) -> None:
    option(parser, "--policy", "FILE", str, "the policy file that tune wrote", required=True)
    option(parser, "--scenario", "NAME", scenario_name, "a scenario of the lab (nestobs lab --list)", required=True)
    option(
        parser,
        "--nests",
        "N",
        whole_between(1, 100_000),
        "nests, each joined once by each policy (as many as let the prediction fail, --within permitting)",
    )
    option(
        parser,
        "--within",
        "DURATION",
        duration_between(0.1, 1e6),
        "how long it may take, where --nests does not say how many (5min)",
        default=300.0,
    )
    option(parser, "--out", "DIR", pathname, "default runs/proof", default="runs/proof")
    option(parser, "--seed", "N", whole_between(0, 2**63), "seed of delays and arrivals (default 2)", default=2)


@command(
    _add_prove,
    with_json,
    examples=("prove --policy policy.json --scenario slow-api",),
    exits="0 done, 1 it failed, 5 disk",
)
def prove(args: argparse.Namespace) -> int:
    """A policy and today's rule in a fresh lab, predicted beside realised."""
    from nestobs.trial.prove import prove

    proof = interruptible(
        prove(
            policy_of(args.policy),
            args.scenario,
            args.nests,
            args.out,
            within_s=args.within,
            seed=args.seed,
            progress=teller(args),
        )
    )
    show(args, proof.as_dict(), [*proof.lines(), f"proof: {args.out / 'proof.json'}"])
    return check(proof.problem)


# shared


def policy_of(word: str) -> PolicyFile:
    """The policy in a file, or of a name. Raises UsageError in a sentence."""
    from pathlib import Path

    from nestobs.join.policy import named_policy
    from nestobs.store.files import text_in
    from nestobs.tuning.policy_file import FILE_CHARACTERS, PolicyFile, loads

    path, shown = Path(word), word[:200]
    if not _is_file(path):
        if path.suffix == ".json" or len(path.parts) > 1:
            raise UsageError(f"{shown}: there is no such policy file")
        return PolicyFile(policy=named_policy(word))
    try:
        text = text_in(path, 4 * FILE_CHARACTERS)
    except OSError as error:
        raise UsageError(f"{shown}: it cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"{shown}: {error}: give the file nestobs wrote") from None
    return loads(text, shown)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that no file can have
        return False


def ages_in(path: Path) -> list[float]:
    """The durations in a text file, separated by white space. Raises UsageError in a sentence."""
    from nestobs.store.files import text_in

    try:
        ages = [read_duration(word, zero=True) for word in text_in(path).split()]
    except OSError as error:
        raise UsageError(f"{path}: it cannot be read ({error.strerror})") from None
    except UsageError as error:
        raise UsageError(f"{path}: write one age a line; {error}") from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}: write one age in seconds a line") from None
    if not ages or max(ages) >= 1e6:
        raise UsageError(f"{path}: ages are from 0 to {duration_words(1e6)}, at least one")
    return ages


def write(path: Path, text: str, option: str = "--out") -> None:
    """Put text in place at once, never half. Raises UsageError or StoreError in a sentence."""
    from nestobs.store import files

    check_file(path)
    try:
        files.write(path, text)
    except OSError as error:
        raise StoreError(f"{path} cannot be written ({error.strerror}): give {option} another place") from None


def _window(text: str | None) -> tuple[pd.Timestamp, pd.Timestamp] | None:
    from nestobs.observation.window import Window

    try:
        return None if text is None else Window.parse(text).instants
    except UsageError as error:
        raise UsageError(f"--window: {error}") from None


def _now() -> str:
    from datetime import UTC, datetime

    from nestobs.sources.clock import Clock

    return datetime.fromtimestamp(Clock().now() / SECOND_NS, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


POLICY: Final = Command(
    "policy",
    "Write a policy for web clients.",
    below=(export,),
    examples=("policy export policy.json --format js --out policy.js",),
    exits="0 done, 5 disk",
)
