"""The commands that run a lab or look at a target: demo, lab, doctor, canary, watch, run, join, ready."""

from __future__ import annotations

import argparse
import contextlib
from typing import TYPE_CHECKING, Any

from nestobs.cli.arguments import (
    command,
    configured,
    count,
    duration_s,
    flag,
    manners_of,
    option,
    pathname,
    port,
    reads,
    scenario_name,
    target_name,
    whole_between,
    with_investigation,
    with_json,
    with_manners,
    with_period,
    with_policy,
    with_store,
    with_target,
    with_webhooks,
)
from nestobs.cli.causes import cause_words, fault_words, leads, nest_words
from nestobs.cli.terminal import as_json, check, interruptible, show, teller
from nestobs.errors import UnreachableError, UsageError
from nestobs.observation.text import percent

if TYPE_CHECKING:
    from nestobs.collector.fleet.settings import Fleet
    from nestobs.collector.lookup import Found, Readiness
    from nestobs.join.flow import Verdict


def _add_demo(parser: argparse.ArgumentParser) -> None:
    option(parser, "--out", "DIR", pathname, "default runs/demo", default="runs/demo")
    option(parser, "--nests", "N", count, "nests in all (default 66)", default=66)
    option(parser, "--seed", "N", count, "seed of delays and polls (default 1)", default=1)


@command(
    _add_demo,
    with_json,
    examples=("demo", "demo --out runs/demo --nests 20 --json"),
    exits="0 done, 1 a check failed, 5 disk",
)
def demo(args: argparse.Namespace) -> int:
    """Run the lab, observe it from two vantages, and write a report."""
    from nestobs.trial.demo import demo

    summary = interruptible(demo(args.out, nests=args.nests, seed=args.seed, progress=teller(args)))
    intervals, report = summary["intervals"], args.out / summary["report"]
    proof = summary["proof"] or {"verdict": {"said": ""}, "elsewhere": ""}
    show(
        args,
        summary,
        [
            *filter(None, (summary["observer"]["said"], proof["verdict"]["said"], proof["elsewhere"])),
            f"{summary['observations']} observations of {summary['leaks']['made']} nests; "
            f"{intervals['contain_truth']} of {intervals['n']} intervals contain the truth",
            f"the observer was held up in {percent(summary['held_up'])} of its polls",
            f"report: {report}",
            f"summary: {args.out / 'summary.json'}",
        ],
    )
    return check("; ".join(summary["failed"]))


def _add_lab(parser: argparse.ArgumentParser) -> None:
    text = "scenario, may be repeated (default calm)"
    option(parser, "--scenario", "NAME|FILE", scenario_name, text, action="append", default=[])
    option(parser, "--dir", "DIR", pathname, "its files (default runs/lab)", default="runs/lab")
    option(parser, "--seed", "N", count, "seed of the delays (default 1)", default=1)
    option(parser, "--vantages", "N", int, "1, or 2 with a slow one", choices=(1, 2), default=1)
    option(parser, "--delay-scale", "X", float, "multiply all delays (default 1)", default=1.0)
    option(parser, "--api-port", "PORT", port, "fixed port of the API (default: a free one)", default=0)
    option(parser, "--webhook", "URL", str, "LiveKit tells this URL too", action="append", default=[])
    flag(parser, "--stand-in", "use the LiveKit stand-in even where a server is found")
    flag(parser, "--stamps", "record the lab's own stamp of every request")
    option(
        parser, "--logs", "FORM", str,
        "write the logs that a deployment writes, to --dir: of the API, as json or plain, and of livekit-server",
        choices=("json", "plain"), default="",
    )  # fmt: skip  # what it is, what it is for, what it takes
    flag(parser, "--list", "list the scenarios and end")
    reads(parser, "NESTOBS_LIVEKIT_SERVER")


@command(_add_lab, with_json, examples=("lab --scenario slow-api --scenario never", "lab --list"), exits="0 ended")
def lab(args: argparse.Namespace) -> int:
    """Run relays, a Nests API and LiveKit on loopback until interrupted."""
    from nestobs import lab

    if args.list:
        names = list(lab.scenario_names())
        show(args, {"scenarios": names}, names)
        return 0
    scenarios = args.scenario or ["calm"]

    def ready(running: Any) -> None:
        if args.json:
            print(as_json(running.info), flush=True)
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
                logs=args.logs,
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
    parser.add_argument(
        "--make",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="also make a throwaway room and try every step on it, in at most 20 requests and 30 s, leaving nothing; "
        "the default where the target has a host key (NESTOBS_NSEC, nsec_file)",
    )


@command(
    with_target,
    _add_doctor,
    with_json,
    examples=("doctor --target production", "doctor --make --target production --json"),
    exits="0 good, 1 a fault, 3 cannot tell, 5 store",
)
def doctor(args: argparse.Namespace) -> int:
    """Check this machine, the configuration and a target, step by step."""
    from nestobs.collector.doctor import examine
    from nestobs.config import Config

    config = Config(args.config)
    named = bool(args.target or args.api or config.file.targets)
    target = configured(args)[1] if named else None
    keyring = config.keyring(target.name) if target is not None else None
    keys = keyring.operator if keyring is not None else None
    made = keys is not None if args.make is None else args.make
    found = interruptible(
        examine(
            target,
            config.store(args.store),
            keys=keys,
            budget=config.budget(),
            keyring=keyring if made else None,
            insist=args.make is True,
        )
    )
    show(args, found.as_dict(), found.lines())
    return found.verdict.code


def _add_canary(parser: argparse.ArgumentParser) -> None:
    option(parser, "--count", "N", count, "nests to make; 0 only cleans up", required=True)
    option(parser, "--horizon", "DURATION", duration_s, "watch each so long (90s)", default=90.0)
    option(parser, "--every", "DURATION", duration_s, "time between two nests (1s)", default=1.0)
    option(parser, "--also", "NAME", target_name, "a further target as second vantage", action="append", default=[])
    option(parser, "--seed", "N", count, "seed of phases and arrivals (default: none)")
    text = "vantages beside this one, each a process with a store of its own (docs/fleet.md)"
    option(parser, "--vantages", "FILE", pathname, text)
    flag(parser, "--restart", "the host restarts each in the middle of its watch, and it is joined then")


@command(
    with_target,
    _add_canary,
    with_period,
    with_webhooks,
    with_policy,
    with_investigation,
    with_json,
    examples=("canary --count 1 --target production", "canary --count 0 --target production"),
    exits="0 done, 1 no, 3 no answer, 4 budget, 5 store",
)
def canary(args: argparse.Namespace) -> int:
    """Make nests, watch every layer from the start, join them, clean up."""
    import random

    from nestobs.collector.campaign import causes
    from nestobs.collector.canary import Campaign, run
    from nestobs.join.policy import named_policy
    from nestobs.sources.clock import Clock
    from nestobs.store.reader import Store
    from nestobs.timeline.uptime import observer

    config, target = configured(args)
    store, began_at = Store.open(config.store(args.store)), Clock().now()
    targets = [target, *(config.target(name) for name in args.also)]
    placed = [] if args.vantages is None else config.vantages(args.vantages, store=store.directory, beside=target)
    campaign = Campaign(
        count=args.count,
        policies=(named_policy(args.policy),),
        horizon_s=args.horizon,
        stagger_s=args.every,
        webhook_port=args.webhook_port,
        restart=args.restart,
        investigate=args.investigate,
        period_s=args.period,
    )
    report = interruptible(
        run(
            targets,
            campaign,
            budget=config.budget(),
            store=store,
            keyring=config.keyring(target.name),
            rng=random.Random(args.seed),
            progress=teller(args),
            beside=placed,
        )
    )
    found, ours = causes(store, report, began_at), observer(store.frame(start=began_at))
    told = {"causes": [each.as_dict() for each in found], "observer": ours.as_dict()}
    show(args, report.as_dict() | told, [*filter(None, [ours.words]), *report.sentences(), *nest_words(found)])
    return check("; ".join(said for said in (report.problem(), report.shut_out(), fault_words(found)) if said))


def _add_watch(parser: argparse.ArgumentParser) -> None:
    option(parser, "--for", "DURATION", duration_s, "stop after (default: Ctrl-C)", dest="for_s")
    text = "also join each that somebody is in as a real guest, within the budget; both: also signed in (with --host)"
    parser.add_argument("--join", choices=("guest", "both"), help=text)
    text = "a fleet's host key (npub or hex): watch its nests alone, as that host does, and visit them"
    option(parser, "--host", "KEY", str, text)
    option(parser, "--horizon", "DURATION", duration_s, "with --host: watch each so long (90s)", default=90.0)
    text = "with --host: of each API layer of a nest, at most (40)"
    option(parser, "--polls", "N", whole_between(5, 1_000), text, default=40)
    option(parser, "--vantage", "NAME", str, "what this place is called in each row", default="")
    with_manners(parser)


@command(
    with_target,
    _add_watch,
    with_period,
    with_webhooks,
    with_policy,
    with_json,
    examples=("watch --for 1h --join guest --target production", "watch --host npub1… --join both --target production"),
    exits="0 done, 3 no answer, 4 budget, 5 store",
)
def watch(args: argparse.Namespace) -> int:
    """Observe nests of others, gently, or a fleet's own, until stopped."""
    import random
    from dataclasses import replace

    from nestobs.collector.watch import run
    from nestobs.join.policy import named_policy
    from nestobs.store.reader import Store

    config, target = configured(args)
    target = replace(target, vantage=args.vantage or target.vantage)
    watched = interruptible(
        run(
            target,
            budget=config.budget(),
            store=Store.open(config.store(args.store)),
            rng=random.Random(),
            progress=teller(args),
            for_s=args.for_s,
            joins=named_policy(args.policy) if args.join else None,
            webhook_port=args.webhook_port,
            keys=config.keyring(target.name).operator,
            manners=manners_of(args),
            period_s=args.period,
            fleet=_fleet(args),
        )
    )
    show(args, watched.as_dict(), watched.sentences())
    if blind := watched.blind():
        raise UnreachableError(blind)
    return 0


def _fleet(args: argparse.Namespace) -> Fleet | None:
    """Whose nests a watch is for, None where it is for those of anybody."""
    from nestobs.collector.fleet.settings import JOINERS, Fleet
    from nestobs.nostr import read_public_key

    if args.host is None:
        if args.join == "both":
            raise UsageError("strangers' rooms are joined as a guest alone: give --join guest, or --host for your own")
        return None
    key, joiners = read_public_key(args.host), JOINERS[args.join or "none"]
    return Fleet(host=key, horizon_s=args.horizon, polls=args.polls, joiners=joiners)


@command(
    with_store,
    with_json,
    examples=("run", "run --config /etc/nestobs/nestobs.toml --store nestobs-data"),
    exits="0 done, 5 store",
)
def run(args: argparse.Namespace) -> int:
    """Observe by the [run] table of nestobs.toml until stopped."""
    from nestobs.collector.service.service import run as serve
    from nestobs.config import Config, bucket_environment, plain_environment
    from nestobs.exports.metrics import Metrics
    from nestobs.store.reader import Store

    config = Config(args.config)
    target, settings = config.service()
    store = Store.open(config.store(args.store))
    interruptible(
        serve(
            target,
            settings,
            store=store,
            keyring=config.keyring(target.name),
            budget=config.budget(),
            environment=plain_environment(),
            buckets=bucket_environment(),
            progress=teller(args),
            metrics=Metrics(store.directory, relays=config.relays, apis=[target.api], budgets=config.budgets).scrape,
        )
    )
    return 0


def _with_address(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("address", metavar="ADDRESS", help="naddr, a page's link, 30312:pubkey:d or room id")


def _add_join(parser: argparse.ArgumentParser) -> None:
    flag(parser, "--guest", "join as a guest (default: sign in, if need be with a fresh key)")
    option(parser, "--stay", "DURATION", duration_s, "stay connected so long (2s)", default=2.0)
    with_manners(parser)
    flag(parser, "--as-yourself", "sign in though your own identity is, or may be, in the room: that throws it out")


@command(
    _with_address,
    with_target,
    _add_join,
    with_policy,
    with_investigation,
    with_json,
    examples=("join naddr1… --target production", "join naddr1… --guest --investigate --target production"),
    exits="0 joined, 1 not, 3 no answer, 4 budget, 5 store",
)
def join(args: argparse.Namespace) -> int:
    """Join a nest for real, with fallback and retry, and say how it went."""
    from dataclasses import replace

    from nestobs.collector.prober import join_once
    from nestobs.join.policy import named_policy
    from nestobs.nostr import Keys
    from nestobs.observation.nest import read_address
    from nestobs.store.reader import Store

    config, target = configured(args)
    operator = config.keyring(target.name).operator
    keys = None if args.guest else operator or Keys.generate()
    found, verdict, diagnosis = interruptible(
        join_once(
            target,
            read_address(args.address),
            Store.open(config.store(args.store)),
            policy=replace(named_policy(args.policy), stay_s=args.stay),
            keys=keys,
            relay_keys=operator,
            standing_key=operator is not None,
            manners=manners_of(args),
            budget=config.budget(),
            investigate=args.investigate,
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
        "event": found.why_not_live() or found.skew(),
        "created_at": verdict.created_at,
        "age_s": None if found.skew() else verdict.age_s,
        "clock": found.by,
        "relays": list(verdict.relays),
        "silent_relays": {each.url: each.why for each in found.silent},
        "requests": verdict.requests,
        "elapsed_s": verdict.elapsed_s,
        "attempts": [
            {"step": a.step, "age_s": a.age_s, "outcome": a.outcome.value, "status": a.status, "failure": a.failure}
            for a in verdict.attempts
        ],
        "causes": [] if diagnosis is None else diagnosis.as_dict()["causes"],
    }
    host = keys is not None and found.nest is not None and found.nest.address.pubkey == keys.public
    why = [] if diagnosis is None else cause_words(diagnosis, "host" if host else "guest")
    said = _join_words(found, verdict, data)
    show(args, data, [*why, *said] if leads(diagnosis) else [*said, *why])
    return 0 if verdict.joined else 1


def _join_words(found: Found, verdict: Verdict, data: dict[str, Any]) -> list[str]:
    """How it went, for people: what the event says of the nest comes before what a client would make of a 404."""
    said = data["event"]
    lines = [f"{verdict.kind.value}" + (f": {verdict.message}" if verdict.message else "")]
    if said and not verdict.joined:
        kind = "gone: " if found.is_over() else f"{verdict.kind.value}: " if found.skew() == said else ""
        lines = [f"{kind}{said} (the web client would say: {verdict.message})"]
    lines += [f"  found      {verdict.reason}"] if verdict.reason else []
    shown = {name: "unknown" if data[name] is None else data[name] for name in data}
    lines += [f"  {name:<10} {shown[name]}" for name in ("room", "status", "age_s", "requests", "elapsed_s")]
    lines += [f"  clock      ages are {found.by}"] if found.by else []
    lines += [f"  relays     {', '.join(verdict.relays) or found.nobody_has_it()}"]
    lines += [f"  no answer  {each.url}: {each.why}" for each in found.silent if verdict.relays]
    lines += [
        f"  {a.step:<10} {a.outcome.value:<8} {a.status or ''} {a.failure or ''}".rstrip() for a in verdict.attempts
    ]
    return lines


@command(
    _with_address,
    with_target,
    with_investigation,
    with_json,
    examples=("ready naddr1… --target production", "ready naddr1… --target production > /dev/null && echo open"),
    exits="0 ready, 1 not yet, 3 cannot tell, 5 store, 6 gone",
)
def ready(args: argparse.Namespace) -> int:
    """Say by the exit code, for scripts, whether a nest can be joined now."""
    from nestobs.collector.lookup import ready_once
    from nestobs.observation.nest import read_address
    from nestobs.store.reader import Store

    config, target = configured(args)
    wanted, store = read_address(args.address), Store.open(config.store(args.store))
    keys, budget = config.keyring(target.name).operator, config.budget()
    asking = ready_once(target, wanted, store, keys=keys, budget=budget, investigate=args.investigate)
    found: Readiness = interruptible(asking)
    why = [] if found.diagnosis is None else cause_words(found.diagnosis, "guest")
    show(args, found.as_dict(), [f"{found.state}: {found.why}", *(why[1:] if found.fault else why)])
    return found.code
