"""The commands that run a lab or look at a target: demo, lab, doctor, canary, watch, join, ready."""

from __future__ import annotations

import argparse
import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from nestobs.cli.arguments import (
    Command,
    configured,
    count,
    duration_s,
    manners_of,
    port,
    with_json,
    with_manners,
    with_policy,
    with_target,
    with_webhooks,
)
from nestobs.cli.terminal import check, interruptible, show, teller

if TYPE_CHECKING:
    from nestobs.collector.lookup import Readiness


def _add_demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--out", metavar="DIR", type=Path, default=Path("runs/demo"), help="default runs/demo")
    parser.add_argument("--nests", metavar="N", type=count, default=66, help="nests in all (default 66)")
    parser.add_argument("--seed", metavar="N", type=count, default=1, help="seed of delays and polls (default 1)")
    with_json(parser)


def _run_demo(args: argparse.Namespace) -> int:
    from nestobs.trial.demo import demo

    summary = interruptible(demo(args.out, nests=args.nests, seed=args.seed, progress=teller(args)))
    intervals, report = summary["intervals"], args.out / summary["report"]
    show(
        args,
        summary,
        [
            f"{summary['observations']} observations of {summary['leaks']['made']} nests; "
            f"{intervals['contain_truth']} of {intervals['n']} intervals contain the truth",
            f"the observer was held up in {summary['held_up']:.1%} of its polls",
            f"report: {report}",
            f"summary: {args.out / 'summary.json'}",
        ],
    )
    return check("; ".join(summary["failed"]))


def _add_lab(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--scenario", metavar="NAME|FILE", action="append", default=[], help="scenario, may be repeated (default calm)"
    )
    parser.add_argument(
        "--dir", metavar="DIR", type=Path, default=Path("runs/lab"), help="its files (default runs/lab)"
    )
    parser.add_argument("--seed", metavar="N", type=count, default=1, help="seed of the delays (default 1)")
    parser.add_argument("--vantages", metavar="N", type=int, choices=(1, 2), default=1, help="1, or 2 with a slow one")
    parser.add_argument("--delay-scale", metavar="X", type=float, default=1.0, help="multiply all delays (default 1)")
    parser.add_argument(
        "--api-port", metavar="PORT", type=port, default=0, help="fixed port of the API (default: a free one)"
    )
    parser.add_argument("--webhook", metavar="URL", action="append", default=[], help="LiveKit tells this URL too")
    parser.add_argument("--stand-in", action="store_true", help="use the LiveKit stand-in even where a server is found")
    parser.add_argument("--stamps", action="store_true", help="record the lab's own stamp of every request")
    parser.add_argument("--list", action="store_true", help="list the scenarios and end")
    with_json(parser)


def _run_lab(args: argparse.Namespace) -> int:
    from nestobs import lab

    if args.list:
        names = list(lab.scenario_names())
        show(args, {"scenarios": names}, names)
        return 0
    scenarios = args.scenario or ["calm"]

    def ready(running: Any) -> None:
        if args.json:
            print(json.dumps(running.info), flush=True)
            return
        print(_lab_words(running.info, str(args.dir)), flush=True)

    with contextlib.suppress(KeyboardInterrupt):
        interruptible(
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


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    with_target(parser)
    with_json(parser)


def _run_doctor(args: argparse.Namespace) -> int:
    from nestobs.collector.doctor import examine
    from nestobs.config import Config

    config = Config(args.config)
    named = bool(args.target or args.api or config.file.targets)
    target = configured(args)[1] if named else None
    keys = config.keyring(target.name).operator if target is not None else None
    checks = interruptible(examine(target, config.store(args.store), keys=keys))
    mark = {"good": "ok  ", "bad": "BAD ", "note": "note"}
    show(
        args,
        {"checks": [{"name": c.name, "state": c.state, "said": c.said} for c in checks]},
        [f"{mark[c.state]}  {c.name}: {c.said}" for c in checks],
    )
    return 1 if any(check.state == "bad" for check in checks) else 0


def _add_canary(parser: argparse.ArgumentParser) -> None:
    with_target(parser)
    parser.add_argument("--count", metavar="N", type=count, required=True, help="nests to make; 0 only cleans up")
    parser.add_argument("--horizon", metavar="DURATION", type=duration_s, default=90.0, help="watch each so long (90s)")
    parser.add_argument("--every", metavar="DURATION", type=duration_s, default=1.0, help="time between two nests (1s)")
    parser.add_argument(
        "--also", metavar="NAME", action="append", default=[], help="a further target as second vantage"
    )
    parser.add_argument(
        "--seed", metavar="N", type=count, default=None, help="seed of phases and arrivals (default: none)"
    )
    with_webhooks(parser)
    with_policy(parser, "exponential(1)")
    with_json(parser)


def _run_canary(args: argparse.Namespace) -> int:
    import random

    from nestobs.collector.canary import Campaign, run
    from nestobs.join.budget import Budget
    from nestobs.join.policy import named_policy
    from nestobs.store.reader import Store

    config, target = configured(args)
    targets = [target, *(config.target(name) for name in args.also)]
    campaign = Campaign(
        count=args.count,
        policies=(named_policy(args.policy),),
        horizon_s=args.horizon,
        stagger_s=args.every,
        webhook_port=args.webhook_port,
    )
    report = interruptible(
        run(
            targets,
            campaign,
            store=Store.open(config.store(args.store)),
            keyring=config.keyring(target.name),
            budget=Budget(),
            rng=random.Random(args.seed),
            progress=teller(args),
        )
    )
    verdicts = ", ".join(f"{n} {kind}" for kind, n in sorted(report.verdicts.items())) or "none"
    lines = [f"made {report.made} nests, {report.refused} refused; joins: {verdicts}"]
    lines += [f"before that: {report.earlier.sentence()}"] if report.earlier.rooms or report.earlier.left else []
    lines += [f"left behind: {sentence}" for sentence in report.left]
    show(args, report.as_dict(), lines)
    return check(report.problem())


def _add_watch(parser: argparse.ArgumentParser) -> None:
    with_target(parser)
    parser.add_argument("--for", dest="for_s", metavar="DURATION", type=duration_s, help="stop after (default: Ctrl-C)")
    parser.add_argument(
        "--join", choices=("guest",), help="also join each that somebody is in as a real guest, within the budget"
    )
    with_manners(parser)
    with_webhooks(parser)
    with_policy(parser, "exponential(1)")
    with_json(parser)


def _run_watch(args: argparse.Namespace) -> int:
    import random

    from nestobs.collector.watch import run
    from nestobs.join.budget import Budget
    from nestobs.join.policy import named_policy
    from nestobs.store.reader import Store

    config, target = configured(args)
    watched = interruptible(
        run(
            target,
            store=Store.open(config.store(args.store)),
            budget=Budget(),
            rng=random.Random(),
            progress=teller(args),
            for_s=args.for_s,
            joins=named_policy(args.policy) if args.join else None,
            webhook_port=args.webhook_port,
            keys=config.keyring(target.name).operator,
            manners=manners_of(args),
        )
    )
    show(
        args,
        watched.as_dict(),
        [f"saw {watched.nests} nests, asked the API about {watched.followed}; {watched.rows} observations"],
    )
    return 0


def _add_join(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="naddr, a page's link, 30312:pubkey:d or room id")
    with_target(parser)
    parser.add_argument(
        "--guest", action="store_true", help="join as a guest (default: sign in, if need be with a fresh key)"
    )
    parser.add_argument("--stay", metavar="DURATION", type=duration_s, default=2.0, help="stay connected so long (2s)")
    with_manners(parser)
    parser.add_argument(
        "--as-yourself",
        action="store_true",
        help="sign in though your own identity is, or may be, in the room: that throws it out",
    )
    with_policy(parser, "exponential(1)")
    with_json(parser)


def _run_join(args: argparse.Namespace) -> int:
    from dataclasses import replace

    from nestobs.collector.prober import join_once
    from nestobs.join.policy import named_policy
    from nestobs.nostr import Keys
    from nestobs.observation.nest import read_address
    from nestobs.store.reader import Store

    config, target = configured(args)
    operator = config.keyring(target.name).operator
    keys = None if args.guest else operator or Keys.generate()
    found, verdict = interruptible(
        join_once(
            target,
            read_address(args.address),
            Store.open(config.store(args.store)),
            policy=replace(named_policy(args.policy), stay_s=args.stay),
            keys=keys,
            relay_keys=operator,
            standing_key=operator is not None,
            manners=manners_of(args),
        )
    )
    data = {
        "verdict": verdict.kind.value,
        "joined": verdict.joined,
        "message": verdict.message,
        "reason": verdict.reason,
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
    lines += [f"  found      {verdict.reason}"] if verdict.reason else []
    lines += [f"  {name:<10} {data[name]}" for name in ("room", "status", "age_s", "requests", "elapsed_s")]
    lines += [f"  relays     {', '.join(verdict.relays) or 'none has the event'}"]
    lines += [
        f"  {a.step:<10} {a.outcome.value:<8} {a.status or ''} {a.failure or ''}".rstrip() for a in verdict.attempts
    ]
    show(args, data, lines)
    return 0 if verdict.joined else 1


def _add_ready(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="naddr, a page's link, 30312:pubkey:d or room id")
    with_target(parser)
    with_json(parser)


def _run_ready(args: argparse.Namespace) -> int:
    from nestobs.collector.lookup import ready_once
    from nestobs.observation.nest import read_address
    from nestobs.store.reader import Store

    config, target = configured(args)
    wanted, store = read_address(args.address), Store.open(config.store(args.store))
    state: Readiness = interruptible(ready_once(target, wanted, store, keys=config.keyring(target.name).operator))
    word = ("ready", "not yet", "gone or closed", "cannot tell")[state.code]
    show(args, {"code": state.code, "state": word, "why": state.why}, [f"{word}: {state.why}"])
    return state.code


COMMANDS: Final = (
    Command("demo", "Run the lab, observe it from two vantages, and write a report.", _add_demo, _run_demo),
    Command("lab", "Run relays, a Nests API and LiveKit on loopback until interrupted.", _add_lab, _run_lab),
    Command("doctor", "Check this machine, the configuration and a target, step by step.", _add_doctor, _run_doctor),
    Command(
        "canary",
        "Make nests, watch every layer from the first instant, join them, clean up.",
        _add_canary,
        _run_canary,
    ),
    Command("watch", "Observe the nests of others, gently, until stopped.", _add_watch, _run_watch),
    Command("join", "Join one nest for real, with fallback and retry, and say how it went.", _add_join, _run_join),
    Command("ready", "For scripts: 0 ready, 1 not yet, 2 gone or closed, 3 cannot tell.", _add_ready, _run_ready),
)
