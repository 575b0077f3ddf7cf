"""LiveKit's words made plain: the cause is kept, the token is not."""

from __future__ import annotations

import pytest

from nestobs.observation.schema import Failure, Outcome
from nestobs.sources.failures import Judgement
from nestobs.sources.livekit_words import http_answer, left, plain_text, redirected, refusal, scrubbed

TOKEN = "eyJhbGciOiJIUzI1NiJ9." + "a" * 180 + "." + "b" * 43
NOW = 1_000_000
CLAIMS = {"nbf": NOW + 300, "exp": NOW - 3600}

REFUSALS = {
    f"invalid token: {TOKEN}, error: go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)": (
        "not valid yet (300 s ahead of this clock)"
    ),
    f"invalid token: {TOKEN}, error: square/go-jose/jwt: validation failed, token not valid yet (nbf)": "not valid yet",
    f"invalid token: {TOKEN}, error: go-jose/go-jose/jwt: validation failed, token is expired (exp)": (
        "has expired (3600 s ago by this clock)"
    ),
    f"invalid token: {TOKEN}, error: go-jose/go-jose: error in cryptographic primitive": "signed with another key",
    f"invalid token: {TOKEN}, error: square/go-jose: error in cryptographic primitive": "signed with another key",
    "invalid API key: APIother": "an API key that LiveKit does not have",
    "permissions denied": "does not allow this",
    "no permissions to access the room": "does not allow this",
    "invalid authorization token": "no token",
    "something that is new": "something that is new",
}


@pytest.mark.parametrize("said", REFUSALS, ids=lambda said: said[-40:])
def test_why_a_token_is_refused_stands_behind_it_and_is_kept(said):
    words = refusal(scrubbed(said, TOKEN), CLAIMS, NOW)
    assert REFUSALS[said] in words
    assert TOKEN not in words
    assert TOKEN[:40] not in words


@pytest.mark.parametrize(
    "claims",
    [{}, {"nbf": "soon"}, {"nbf": float("nan")}, {"nbf": 1e300}, {"nbf": None}, {"nbf": 5}, {"nbf": 10**400}],
    ids=lambda claims: repr(claims)[:20],
)
def test_claims_that_tell_no_span_are_passed_over(claims):
    assert "ahead of this clock" not in refusal("token not valid yet (nbf)", claims, NOW)


NGINX = "<html> <head><title>404 Not Found</title></head> <body> <h1>404 Not Found</h1> nginx</body></html>"
ANSWERS = {
    "LiveKit's own": (404, "requested room does not exist", "text/plain", Outcome.ABSENT, "does not exist"),
    "a page that quotes it": (404, "<p>requested room does not exist", "text/html", Outcome.UNKNOWN, "a web page"),
    "nginx": (404, NGINX, "text/html", Outcome.UNKNOWN, "is the path right?"),
    "Go's mux": (404, "404 page not found", "text/plain", Outcome.UNKNOWN, "another server's words"),
    "traefik": (404, "404 page not found", "text/plain; charset=utf-8", Outcome.UNKNOWN, "is the path right?"),
    "Caddy, empty": (404, "", "", Outcome.UNKNOWN, "nothing more"),
    "Express": (404, "<pre>Cannot GET /rtc</pre>", "text/html", Outcome.UNKNOWN, "a web page"),
    "Kubernetes": (404, "default backend - 404", "text/plain", Outcome.UNKNOWN, "another server's words"),
    "a JSON API": (404, '{"message":"no room for this"}', "application/json", Outcome.UNKNOWN, "is the path right?"),
    "a fall-back page": (200, "<!doctype html><div id=root>", "text/html", Outcome.UNKNOWN, "HTTP 200 and a web page"),
    "a gateway": (502, "<h1>502 Bad Gateway</h1>", "text/html", Outcome.UNKNOWN, "HTTP 502 and a web page"),
    "envoy": (503, "no healthy upstream", "text/plain", Outcome.UNKNOWN, "no healthy upstream"),
    "a basic login": (401, "<h1>401 Authorization Required</h1>", "text/html", Outcome.REFUSED, "a web page"),
    "nginx speaking TLS": (400, "The plain HTTP request was sent to HTTPS port", "text/html", Outcome.UNKNOWN, "TLS"),
    "Go speaking TLS": (400, "Client sent an HTTP request to an HTTPS server.", "", Outcome.UNKNOWN, "write wss://"),
}


@pytest.mark.parametrize("who", ANSWERS)
def test_only_livekits_own_words_prove_that_a_room_is_absent(who):
    status, said, content_type, outcome, words = ANSWERS[who]
    found = http_answer(status, said, content_type, "/rtc")
    assert found.outcome is outcome
    assert found.failure
    assert words in found.reason


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://sso.example/login?next=/rtc%3Faccess_token%3Dsecret", "https://sso.example/login;"),
        ("/other?access_token=secret", "redirects to /other;"),
        ("https://user:secret@host.example:8443/rtc#secret", "https://host.example:8443/rtc;"),
        ("http://[::1/secret", "what is no URL;"),
        ("", "redirects to ;"),
    ],
    ids=["a login", "a path", "a password", "no URL", "nowhere"],
)
def test_a_redirect_is_named_without_what_it_repeats(location, shown):
    found = redirected(302, location)
    assert shown in found.reason
    assert "secret" not in found.reason
    assert found.outcome is Outcome.UNKNOWN


def test_plain_text_where_tls_was_expected_is_said_so():
    raw = "TLS failed: [SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:1006); is the scheme right?"
    found = plain_text(Judgement(Outcome.UNKNOWN, Failure.TLS, None, raw))
    assert found.reason.startswith("speaks plain ws where wss was expected")
    other = Judgement(Outcome.UNKNOWN, Failure.TLS, None, "TLS failed: certificate has expired")
    assert plain_text(other) == other


@pytest.mark.parametrize(
    ("reason", "failure", "words"),
    [
        ("ROOM_DELETED", Failure.REMOVED, "the room was deleted"),
        ("ROOM_CLOSED", Failure.REMOVED, "the room was closed"),
        ("DUPLICATE_IDENTITY", Failure.REMOVED, "the same identity"),
        ("PARTICIPANT_REMOVED", Failure.REMOVED, "removed us"),
        ("SERVER_SHUTDOWN", Failure.DROPPED, "server shutdown"),
        ("STATE_MISMATCH", Failure.DROPPED, "state mismatch"),
        ("UNKNOWN_REASON", Failure.DROPPED, "no reason given"),
        ("", Failure.DROPPED, "no reason given"),
    ],
)
def test_who_was_sent_away_is_told_from_who_was_cut_off(reason, failure, words):
    found, said = left(reason)
    assert found is failure
    assert words in said
