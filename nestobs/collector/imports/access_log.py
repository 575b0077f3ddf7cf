"""The access log of a proxy before the Nests API: nginx, Apache, Caddy or Traefik, combined or as JSON.

Combined lines tell when an answer was sent, in whole seconds, and no more; `$request_time`, `$upstream_status` and
`$upstream_cache_status` are read where they were appended. Addresses, names of users and agents, queries and referrers
are not kept.
"""

from __future__ import annotations

from collections.abc import Iterable

from nestobs.collector.imports.lines import Line
from nestobs.collector.imports.requests import (
    Request,
    Route,
    by_a_proxy,
    combined,
    own_words,
    route_of,
    said_of,
    sighting_of,
)
from nestobs.collector.imports.requests import structured as in_json
from nestobs.collector.imports.said import Names, Reading
from nestobs.nostr import json_object

DEPTH = 1
"""Of what a proxy's log sees: within what the browser sees."""


def request_in(line: Line) -> Request | None:
    """The request of a line; None where it is none."""
    if line.raw.lstrip().startswith("{") and (entry := json_object(line.text)) is not None:
        return in_json(entry, line.stamp)
    return combined(line.text)


def read(lines: Iterable[Line], names: Names) -> Reading:
    """What an access log says of nests."""
    found, requests = Reading(), list[tuple[Line, Request, Route]]()
    for line in lines:
        found.lines += 1
        request = request_in(line)
        if request is None:
            found.not_understood(line.number)
        elif (route := route_of(request.method, request.path, names.api)) is None:
            found.idle += 1
        else:
            requests.append((line, request, route))
    shown = any(own_words(request) for _, request, _ in requests)
    for line, request, route in requests:
        judgement = by_a_proxy(route.operation, request, shown=shown)
        if route.room or judgement.failure is not None:  # which room was made, it does not tell
            said = said_of(line, request, route, judgement, target=names.api, longest_s=names.longest_s)
            found.said.append(said)
        found.seen.append(sighting_of(request, route, names.longest_s, DEPTH))
        found.zoneless += not request.stamp.zoned
    return found
