"""The command line: words in, one call, an exit code out. Imports happen inside commands, so that --help is quick."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nestobs import __version__
from nestobs.errors import NestobsError, UsageError

if TYPE_CHECKING:
    from nestobs.collector.lookup import Readiness
    from nestobs.collector.station import Target
    from nestobs.config import Config

EXIT_CODES: Final = """\
exit codes:
  0  done; for `ready`: ready
  1  the answer is no: not joined, something left, a check or report failed, too little data; for `ready`: not yet
  2  the words are wrong: flags, nestobs.toml, an address, a key; for `ready` also: gone or closed
  3  a target that must answer does not; for `ready`: cannot tell; for `report --fail-on breached`: it is
  4  the request budget does not allow it; for `report`: there is too little data
  5  the store cannot be used, or the disk is full (what was acknowledged is safe)
  75  another process is making that report: try again later
  130  interrupted; what was made has been cleaned up, or stays in the ledger for the next start
"""

Command = Callable[[argparse.Namespace], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; its exit code. An operator's mistake is one sentence on stderr, never a traceback."""
    parser = _parser()
    args = parser.parse_args(argv)
    try:
        command: Command = args.command
        code = command(args)
        sys.stdout.flush()
        return code
    except NestobsError as error:
        from nestobs.cli.terminal import harmless

        print(f"nestobs: {harmless(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read us has gone; so that the interpreter's own last flush finds no pipe
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="nestobs",
        description="Observe how audio rooms (nests) become visible on relays, API and LiveKit; join them for real.",
        epilog=EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"nestobs {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (_demo, _lab, _doctor, _canary, _watch, _join, _ready, _timeline, _live, _export, _tuning, _report):
        add(commands)
    return parser


Commands = Any
"""argparse's sub-parsers action, whose type is private."""


def _command(commands: Commands, name: str, run: Command, text: str) -> argparse.ArgumentParser:
    made: argparse.ArgumentParser = commands.add_parser(
        name, help=text, description=text, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.set_defaults(command=run)
    return made


def _with_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON on standard output")


def _with_store(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--store", metavar="DIR", help="folder of observations (default ./nestobs-data)")
    parser.add_argument("--config", metavar="FILE", type=Path, help="configuration (default ./nestobs.toml)")


def _with_target(parser: argparse.ArgumentParser) -> None:
    _with_store(parser)
    parser.add_argument("--target", metavar="NAME", help="a target of nestobs.toml")
    parser.add_argument("--api", metavar="URL", help="base of the Nests API, https://HOST/api/v1/nests")
    parser.add_argument(
        "--relay", metavar="URL", action="append", default=[], help="a relay; the first is the selected one"
    )
    parser.add_argument("--livekit", metavar="URL", help="LiveKit, wss://HOST, in place of what nests name")


def _with_policy(parser: argparse.ArgumentParser, default: str) -> None:
    parser.add_argument(
        "--policy",
        metavar="NAME",
        default=default,
        help=f"guide, released, manual_retry, fixed(S), … (default {default})",
    )


def _with_webhooks(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--webhook-port", metavar="PORT", type=_port, help="receive LiveKit's webhooks here (needs LiveKit's keys)"
    )


def _duration_s(text: str) -> float:
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
    number, unit = text, 1.0
    for name in sorted(units, key=len, reverse=True):
        if text.endswith(name):
            number, unit = text.removesuffix(name), units[name]
            break
    try:
        found = float(number) * unit
    except ValueError:
        found = -1.0
    if not 0 < found < 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration: write 90s, 5m or 2h")
    return found


def _count(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 100_000:
        raise argparse.ArgumentTypeError(f"{text!r} is no count: write a whole number from 0 to 100000")
    return int(text)


def _port(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port: write a number from 1 to 65535, or 0 for a free one")
    return int(text)


def _configured(args: argparse.Namespace) -> tuple[Config, Target]:
    from nestobs.config import Config

    config = Config(args.config)
    return config, config.target(args.target, api=args.api, relays=args.relay, livekit=args.livekit)


def _show(args: argparse.Namespace, data: dict[str, Any], lines: Sequence[str]) -> None:
    if args.json:
        print(json.dumps(data, indent=2, default=str))
    else:
        from nestobs.cli.terminal import harmless

        print("\n".join(harmless(line) for line in lines))


# demo


def _demo(commands: Commands) -> None:
    parser = _command(commands, "demo", _run_demo, "Run the lab, observe it from two vantages, and write a report.")
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/demo"), help="default runs/demo")
    parser.add_argument("--nests", metavar="N", type=_count, default=66, help="nests in all (default 66)")
    parser.add_argument("--seed", metavar="N", type=_count, default=1, help="seed of delays and polls (default 1)")
    _with_json(parser)


def _run_demo(args: argparse.Namespace) -> int:
    from nestobs.trial.demo import demo

    summary = _interruptible(demo(args.out, nests=args.nests, seed=args.seed, progress=_teller(args)))
    intervals, report = summary["intervals"], args.out / summary["report"]
    _show(
        args,
        summary,
        [
            f"{summary['observations']} observations of {summary['leaks']['made']} nests; "
            f"{intervals['contain_truth']} of {intervals['n']} intervals contain the truth",
            f"report: {report}",
            f"summary: {args.out / 'summary.json'}",
        ],
    )
    return 1 if summary["leaks"]["left"] else 0


# tune, replay, prove, policy


def _tuning(commands: Commands) -> None:
    from nestobs.cli import tuning as cli_tuning

    for name, run, add, text in (
        (
            "tune",
            cli_tuning.run_tune,
            cli_tuning.add_tune,
            "A defended threshold and polling policy from what was seen.",
        ),
        (
            "replay",
            cli_tuning.run_replay,
            cli_tuning.add_replay,
            "What policies would have done on the nests observed.",
        ),
        (
            "prove",
            _run_prove,
            cli_tuning.add_prove,
            "A policy and today's rule in a fresh lab, predicted beside realised.",
        ),
        ("policy", cli_tuning.run_policy, cli_tuning.add_policy, "Write a policy for web clients."),
    ):
        add(_command(commands, name, run, text))


def _run_prove(args: argparse.Namespace) -> int:
    from nestobs.cli.tuning import policy_of
    from nestobs.trial.prove import prove

    proof = _interruptible(
        prove(policy_of(args.policy), args.scenario, args.nests, args.out, seed=args.seed, progress=_teller(args))
    )
    _show(args, proof.as_dict(), [*proof.lines(), f"proof: {args.out / 'proof.json'}"])
    return 1 if proof.left else 0


# report


def _report(commands: Commands) -> None:
    from nestobs.cli.reports import add_report, run_report

    add_report(
        _command(commands, "report", run_report, "Make reports on a schedule: each window once, published whole.")
    )


# lab


def _lab(commands: Commands) -> None:
    parser = _command(commands, "lab", _run_lab, "Run relays, a Nests API and LiveKit on loopback until interrupted.")
    parser.add_argument(
        "--scenario", metavar="NAME|FILE", action="append", default=[], help="scenario, may be repeated (default calm)"
    )
    parser.add_argument(
        "--dir", metavar="DIR", type=Path, default=Path("runs/lab"), help="its files (default runs/lab)"
    )
    parser.add_argument("--seed", metavar="N", type=_count, default=1, help="seed of the delays (default 1)")
    parser.add_argument("--vantages", metavar="N", type=int, choices=(1, 2), default=1, help="1, or 2 with a slow one")
    parser.add_argument("--delay-scale", metavar="X", type=float, default=1.0, help="multiply all delays (default 1)")
    parser.add_argument(
        "--api-port", metavar="PORT", type=_port, default=0, help="fixed port of the API (default: a free one)"
    )
    parser.add_argument("--webhook", metavar="URL", action="append", default=[], help="LiveKit tells this URL too")
    parser.add_argument("--stand-in", action="store_true", help="use the LiveKit stand-in even where a server is found")
    parser.add_argument("--stamps", action="store_true", help="record the lab's own stamp of every request")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    _with_json(parser)


def _run_lab(args: argparse.Namespace) -> int:
    from nestobs import lab

    if args.list:
        names = list(lab.scenario_names())
        _show(args, {"scenarios": names}, names)
        return 0
    scenarios = args.scenario or ["calm"]

    def ready(running: Any) -> None:
        if args.json:
            print(json.dumps(running.info), flush=True)
            return
        print(_lab_words(running.info, str(args.dir)), flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        _interruptible(
            lab.run(
                scenarios,
                args.dir,
                on_ready=ready,
                seed=args.seed,
                vantages=args.vantages,
                delay_scale=args.delay_scale,
                api_port=args.api_port,
                webhooks=args.webhook,
                livekit="stand-in" if args.stand_in else "auto",
                stamps=args.stamps,
            )
        )
    if not args.json:
        print("the lab has ended")
    return 0


def _lab_words(info: dict[str, Any], directory: str) -> str:
    livekit = info["livekit"]
    lines = [f"The lab runs. LiveKit: {livekit['kind']} {livekit['version']}"]
    if livekit["kind"] == "stand-in":
        lines.append("This is a stand-in: it signals but carries no media. `make livekit` builds the real server.")
    for name, scenario in info["scenarios"].items():
        for vantage in scenario["vantages"]:
            lines += [f"{name}, {vantage['name']}", f"  api      {vantage['api']}", f"  livekit  {vantage['livekit']}"]
            lines += [f"  relay    {relay}" for relay in vantage["relays"]]
    first = next(iter(info["scenarios"]))
    lines += [
        f"Targets: {info['files']['config']}",
        "In another terminal:",
        f"  nestobs canary --config {directory}/nestobs.toml --target {first} --count 3",
        "Ctrl-C ends it.",
    ]
    return "\n".join(lines)


# doctor


def _doctor(commands: Commands) -> None:
    parser = _command(
        commands, "doctor", _run_doctor, "Check this machine, the configuration and a target, step by step."
    )
    _with_target(parser)
    _with_json(parser)


def _run_doctor(args: argparse.Namespace) -> int:
    from nestobs.collector.doctor import examine
    from nestobs.config import Config

    config = Config(args.config)
    named = bool(args.target or args.api or config.file.targets)
    target = _configured(args)[1] if named else None
    checks = _interruptible(examine(target, config.store(args.store)))
    mark = {"good": "ok  ", "bad": "BAD ", "note": "note"}
    _show(
        args,
        {"checks": [{"name": c.name, "state": c.state, "said": c.said} for c in checks]},
        [f"{mark[c.state]}  {c.name}: {c.said}" for c in checks],
    )
    return 1 if any(check.state == "bad" for check in checks) else 0


# canary, watch


def _canary(commands: Commands) -> None:
    parser = _command(
        commands, "canary", _run_canary, "Make nests, watch every layer from the first instant, join them, clean up."
    )
    _with_target(parser)
    parser.add_argument("--count", metavar="N", type=_count, required=True, help="nests to make; 0 only cleans up")
    parser.add_argument(
        "--horizon", metavar="DURATION", type=_duration_s, default=90.0, help="watch each so long (90s)"
    )
    parser.add_argument(
        "--every", metavar="DURATION", type=_duration_s, default=1.0, help="time between two nests (1s)"
    )
    parser.add_argument(
        "--also", metavar="NAME", action="append", default=[], help="a further target as second vantage"
    )
    parser.add_argument(
        "--seed", metavar="N", type=_count, default=None, help="seed of phases and arrivals (default: none)"
    )
    _with_webhooks(parser)
    _with_policy(parser, "exponential(1)")
    _with_json(parser)


def _run_canary(args: argparse.Namespace) -> int:
    import random

    from nestobs.collector.canary import Campaign, run
    from nestobs.join.budget import Budget
    from nestobs.join.policy import named_policy
    from nestobs.store.store import Store

    config, target = _configured(args)
    targets = [target, *(config.target(name) for name in args.also)]
    campaign = Campaign(
        count=args.count,
        policies=(named_policy(args.policy),),
        horizon_s=args.horizon,
        stagger_s=args.every,
        webhook_port=args.webhook_port,
    )
    report = _interruptible(
        run(
            targets,
            campaign,
            store=Store.open(config.store(args.store)),
            keyring=config.keyring(target.name),
            budget=Budget(),
            rng=random.Random(args.seed),
            progress=_teller(args),
        )
    )
    verdicts = ", ".join(f"{n} {kind}" for kind, n in sorted(report.verdicts.items())) or "none"
    lines = [f"made {report.made} nests, {report.refused} refused; joins: {verdicts}"]
    lines += [f"before that: {report.earlier.sentence()}"] if report.earlier.rooms or report.earlier.left else []
    lines += [f"left behind: {sentence}" for sentence in report.left]
    _show(args, report.as_dict(), lines)
    return 1 if report.left or (args.count and not report.made) else 0


def _watch(commands: Commands) -> None:
    parser = _command(commands, "watch", _run_watch, "Observe the nests of others, gently, until stopped.")
    _with_target(parser)
    parser.add_argument(
        "--for", dest="for_s", metavar="DURATION", type=_duration_s, help="stop after (default: Ctrl-C)"
    )
    parser.add_argument("--join", choices=("guest",), help="also join each as a real guest, within the budget")
    _with_webhooks(parser)
    _with_policy(parser, "exponential(1)")
    _with_json(parser)


def _run_watch(args: argparse.Namespace) -> int:
    import random

    from nestobs.collector.watch import run
    from nestobs.join.budget import Budget
    from nestobs.join.policy import named_policy
    from nestobs.store.store import Store

    config, target = _configured(args)
    watched = _interruptible(
        run(
            target,
            store=Store.open(config.store(args.store)),
            budget=Budget(),
            rng=random.Random(),
            progress=_teller(args),
            for_s=args.for_s,
            joins=named_policy(args.policy) if args.join else None,
            webhook_port=args.webhook_port,
        )
    )
    _show(
        args,
        watched.as_dict(),
        [f"saw {watched.nests} nests, asked the API about {watched.followed}; {watched.rows} observations"],
    )
    return 0


# join, ready


def _join(commands: Commands) -> None:
    parser = _command(
        commands, "join", _run_join, "Join one nest for real, with fallback and retry, and say how it went."
    )
    parser.add_argument("address", metavar="ADDRESS", help="naddr, 30312:pubkey:d or room id")
    _with_target(parser)
    parser.add_argument(
        "--guest", action="store_true", help="join as a guest (default: sign in, if need be with a fresh key)"
    )
    parser.add_argument("--stay", metavar="DURATION", type=_duration_s, default=2.0, help="stay connected so long (2s)")
    _with_policy(parser, "exponential(1)")
    _with_json(parser)


def _run_join(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from nestobs.collector.prober import join_once
    from nestobs.join.policy import named_policy
    from nestobs.nostr import Keys
    from nestobs.observation.nest import read_address
    from nestobs.store.store import Store

    config, target = _configured(args)
    keys = None if args.guest else config.keyring(target.name).operator or Keys.generate()
    found, verdict = _interruptible(
        join_once(
            target,
            read_address(args.address),
            Store.open(config.store(args.store)),
            policy=replace(named_policy(args.policy), stay_s=args.stay),
            keys=keys,
        )
    )
    data = {
        "verdict": verdict.kind.value,
        "joined": verdict.joined,
        "message": verdict.message,
        "room": verdict.room,
        "nest": found.trace.nest,
        "status": verdict.status,
        "created_at": verdict.created_at,
        "age_s": verdict.age_s,
        "relays": list(verdict.relays),
        "requests": verdict.requests,
        "elapsed_s": verdict.elapsed_s,
        "attempts": [
            {"step": a.step, "age_s": a.age_s, "outcome": a.outcome.value, "status": a.status, "failure": a.failure}
            for a in verdict.attempts
        ],
    }
    lines = [f"{verdict.kind.value}" + (f": {verdict.message}" if verdict.message else "")]
    lines += [f"  {name:<10} {data[name]}" for name in ("room", "status", "age_s", "requests", "elapsed_s")]
    lines += [f"  relays     {', '.join(verdict.relays) or 'none has the event'}"]
    lines += [
        f"  {a.step:<10} {a.outcome.value:<8} {a.status or ''} {a.failure or ''}".rstrip() for a in verdict.attempts
    ]
    _show(args, data, lines)
    return 0 if verdict.joined else 1


def _ready(commands: Commands) -> None:
    parser = _command(
        commands, "ready", _run_ready, "For scripts: 0 ready, 1 not yet, 2 gone or closed, 3 cannot tell."
    )
    parser.add_argument("address", metavar="ADDRESS", help="naddr, 30312:pubkey:d or room id")
    _with_target(parser)
    _with_json(parser)


def _run_ready(args: argparse.Namespace) -> int:
    from nestobs.collector.lookup import ready_once
    from nestobs.observation.nest import read_address
    from nestobs.store.store import Store

    config, target = _configured(args)
    wanted, store = read_address(args.address), Store.open(config.store(args.store))
    state: Readiness = _interruptible(ready_once(target, wanted, store))
    word = ("ready", "not yet", "gone or closed", "cannot tell")[state.code]
    _show(args, {"code": state.code, "state": word, "why": state.why}, [f"{word}: {state.why}"])
    return state.code


# timeline, export


def _timeline(commands: Commands) -> None:
    parser = _command(commands, "timeline", _run_timeline, "Show in which interval each layer showed each nest.")
    parser.add_argument("address", metavar="ADDRESS", nargs="?", help="one nest (default: all)")
    _with_store(parser)
    _with_json(parser)


def _run_timeline(args: argparse.Namespace) -> int:
    from nestobs.cli.terminal import timeline_table
    from nestobs.config import Config
    from nestobs.observation.nest import read_address
    from nestobs.store.store import Store
    from nestobs.timeline.intervals import timelines

    store = Store.open(Config(args.config).store(args.store), create=False)
    wanted = read_address(args.address) if args.address else None
    frame = timelines(store.frame())
    if wanted is not None:
        same = frame["room"] == wanted if isinstance(wanted, str) else frame["nest"] == str(wanted)
        frame = frame[same]
    if args.json:
        print(frame.to_json(orient="records", date_format="iso", indent=2))
    else:
        if frame.empty:
            _show(
                args, {}, [f"no timelines: nothing was observed of {args.address or 'any nest'} in {store.directory}"]
            )
        timeline_table(frame)
    return 0


def _live(commands: Commands) -> None:
    from nestobs.cli.live import add_live

    parser = _command(commands, "live", _run_live, "Show how far each nest is, as another process observes them.")
    add_live(parser, _duration_s, _count)


def _run_live(args: argparse.Namespace) -> int:
    from nestobs.cli.live import run_live

    try:
        return int(_interruptible(run_live(args)))
    except KeyboardInterrupt:  # the usual way to end it
        return 0


def _export(commands: Commands) -> None:
    parser = _command(commands, "export", _run_export, "Write observations (or timelines) to a file.")
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--parquet", metavar="FILE", type=Path, help="write Parquet")
    kind.add_argument("--csv", metavar="FILE", type=Path, help="write CSV (text cells are guarded against formulas)")
    parser.add_argument("--timelines", action="store_true", help="timelines in place of observations")
    _with_store(parser)
    _with_json(parser)


def _run_export(args: argparse.Namespace) -> int:
    from nestobs.config import Config
    from nestobs.exports.frames import write_csv, write_parquet
    from nestobs.store.store import Store
    from nestobs.timeline.intervals import timelines

    frame = Store.open(Config(args.config).store(args.store), create=False).frame()
    if args.timelines:
        frame = timelines(frame)
    path: Path = args.parquet or args.csv
    if path.is_dir():
        raise UsageError(f"{path} is a folder: name the file to write")
    (write_parquet if args.parquet else write_csv)(frame, path)
    _show(args, {"file": str(path), "rows": len(frame)}, [f"{len(frame)} rows in {path}"])
    return 0


# what commands share


def _interruptible(work: Any) -> Any:
    """The result of a coroutine. Ctrl-C and SIGTERM cancel it once; it cleans up and KeyboardInterrupt is raised."""
    import asyncio
    import signal

    async def supervised() -> Any:
        task = asyncio.ensure_future(work)
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            raise KeyboardInterrupt from None

    return asyncio.run(supervised())


def _teller(args: argparse.Namespace) -> Callable[[str, dict[str, Any]], None]:
    """Progress on stderr, so that standard output stays the result's."""
    from nestobs.cli.terminal import Teller

    return Teller(quiet=args.json).tell
