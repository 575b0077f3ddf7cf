"""Whose answer is it? What proxies, gateways and frameworks say by themselves is never taken for the API's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.nostr import json_object
from nestobs.observation.schema import Failure, Operation, Outcome
from nestobs.sources.proof import Form, Heard, find

ASKED = [Operation.INFO, Operation.JOIN, Operation.GUEST, Operation.DELETE]
JSON, TEXT, HTML = "application/json", "text/plain; charset=utf-8", "text/html"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJ2aWRlbyI6e319.c2lnbmF0dXJl"
E = {"content-type": "application/json; charset=utf-8", "etag": 'W/"1a"', "ratelimit-policy": "100;w=900"}
D = {"content-type": "application/json; charset=utf-8", "server": "Kestrel"}
INFO = {"host": "ab" * 32, "speakers": ["ab" * 32], "admins": [], "link": "naddr1", "recording": False}
PROBLEM = {
    "type": "https://tools.ietf.org/html/rfc9110#section-15.5.5",
    "title": "Not Found",
    "status": 404,
    "traceId": "00-f16b0cf2d6e74d5a9f7c0f5e7c7d3a11-2a6f4d2a3b1c4d5e-00",
}


def heard(status, headers, body=None):
    text = body if isinstance(body, str) else "" if body is None else json.dumps(body)
    return Heard(status, headers, json_object(text), text)


def served(by="", kind="", **others):
    named = {"server": by, "content-type": kind} | {name.replace("_", "-"): value for name, value in others.items()}
    return {name: value for name, value in named.items() if value}


FOREIGN = {
    "Traefik, no router": (served(kind=TEXT, x_content_type_options="nosniff"), "404 page not found\n"),
    "nginx": (served("nginx/1.25.3", HTML), "<html><head><title>404 Not Found</title></head></html>"),
    "OpenResty": (served("openresty", HTML), "<html>\r\n<head><title>404 Not Found</title></head>\r\n</html>"),
    "Apache": (served("Apache/2.4.58 (Ubuntu)", HTML), "<!DOCTYPE HTML><title>404 Not Found</title>"),
    "ingress-nginx's default backend": (served(kind=TEXT), "default backend - 404"),
    "a default backend of Google's": (served(kind=TEXT), "response 404 (backend NotFound), service rules for the path"),
    "HAProxy": (
        served(kind=HTML),
        "<html><body><h1>404 Not Found</h1>\nThe resource could not be found.\n</body></html>",
    ),
    "Envoy or Istio": (served("istio-envoy"), ""),
    "Caddy": (served("Caddy"), ""),
    "nobody, nothing": ({}, ""),
    "Kong": (served("kong/3.4.0", JSON), {"message": "no Route matched with those values", "request_id": "8f"}),
    "AWS API Gateway": (served(kind=JSON, apigw_requestid="x="), {"message": "Not Found"}),
    "AWS API Gateway, REST": (served(kind=JSON, x_amzn_errortype="x"), {"message": "Missing Authentication Token"}),
    "an AWS load balancer": (served("awselb/2.0", TEXT), "Not Found"),
    "S3": (served("AmazonS3", "application/xml"), "<?xml version='1.0'?><Error><Code>NoSuchKey</Code></Error>"),
    "Cloudflare": (served("cloudflare", HTML), "<!DOCTYPE html><title>Page not found | nests.example</title>"),
    "Cloudflare tunnel": (served("cloudflare"), ""),
    "Vercel": (served("Vercel", TEXT, x_vercel_error="NOT_FOUND"), "The page could not be found\n\nNOT_FOUND\n"),
    "Vercel, JSON": (served("Vercel", JSON), {"error": {"code": "404", "message": "The page could not be found"}}),
    "Netlify": (served("Netlify", HTML), "<!DOCTYPE html><title>Page not found</title>"),
    "GitHub Pages": (served("GitHub.com", HTML), "<!DOCTYPE html><title>Site not found &middot; GitHub Pages</title>"),
    "Heroku": (served("Cowboy", HTML), "<!DOCTYPE html><title>No such app</title>"),
    "Render": (served("cloudflare", TEXT, x_render_routing="no-server"), "Not Found\n"),
    "Fly": (served("Fly/8f1 (2024-01-01)"), ""),
    "Railway": (served(kind=JSON), {"status": "error", "code": 404, "message": "Application not found"}),
    "Azure": (served("Microsoft-IIS/10.0", HTML), "<!DOCTYPE html><title>Microsoft Azure Web App - Error 404</title>"),
    "Tyk": (served(kind=JSON), {"error": "Not Found"}),
    "KrakenD": (served(kind=TEXT), "404 page not found"),
    "APISIX": (served("APISIX/3.8.0", TEXT), {"error_msg": "404 Route Not Found"}),
    "FastAPI": (served("uvicorn", JSON), {"detail": "Not Found"}),
    "Flask": (served("Werkzeug/3.0.1 Python/3.11", HTML), "<!doctype html>\n<title>404 Not Found</title>"),
    "Django": (served("WSGIServer/0.2", HTML), "<!doctype html><title>Not Found</title>"),
    "Django REST": (served(kind=JSON), {"detail": "Not found."}),
    "aiohttp": (served("Python/3.11 aiohttp/3.9", TEXT), "404: Not Found"),
    "Spring": (
        served(kind=JSON),
        {"timestamp": "2026-01-01T00:00:00Z", "status": 404, "error": "Not Found", "path": "/api/v1/nests/x"},
    ),
    "Spring 6": (
        served(kind="application/problem+json"),
        {"type": "about:blank", "title": "Not Found", "status": 404, "detail": "No static resource nests/x."},
    ),
    "Express": (served(kind=HTML, x_powered_by="Express"), "<title>Error</title><pre>Cannot GET /api/v1/nests/x</pre>"),
    "NestJS": (
        served(kind=JSON),
        {"message": "Cannot GET /api/v1/nests/my-nest/guest", "error": "Not Found", "statusCode": 404},
    ),
    "Fastify": (
        served(kind=JSON),
        {"message": "Route GET:/api/v1/nests/x not found", "error": "Not Found", "statusCode": 404},
    ),
    "a router that quotes the path": (served(kind=JSON), {"error": "Nest /api/v1/nests/x not found"}),
    "Rails": (served(kind=JSON), {"status": 404, "error": "Not Found"}),
    "Laravel": (served(kind=JSON), {"message": "The route api/v1/nests/x could not be found."}),
    "ASP.NET, a page": (served("Kestrel", HTML), "<title>Not Found</title>"),
    "ASP.NET, nothing": (served("Kestrel"), ""),
    "ASP.NET, a problem": (served("Kestrel", "application/problem+json; charset=utf-8"), PROBLEM),
    "Gin": (served(kind=TEXT), "404 page not found"),
    "LiveKit": (served(kind=TEXT), "404 page not found"),
    "Twirp": (served(kind=JSON), {"code": "bad_route", "msg": "no handler for path", "meta": {}}),
    "a list": (served(kind=JSON), '["Nest not found"]'),
    "a text in JSON": (served(kind=JSON), '"Nest not found"'),
    "an error that is a number": (served(kind=JSON), {"error": 404}),
    "a page that quotes it": (served(kind=HTML), '<pre>{"error":"Nest not found"}</pre>'),
    "another nest": (served(kind=JSON), {"error": "Nesting of this document is too deep"}),
}


@pytest.mark.parametrize("operation", ASKED)
@pytest.mark.parametrize("whose", FOREIGN)
def test_a_404_of_somebody_else_proves_nothing_and_says_who_it_was(whose, operation):
    headers, body = FOREIGN[whose]
    form = Form()
    form.learn(E, worded=True)
    for known in (None, form):
        outcome, failure, _, reason = find(operation, heard(404, headers, body), known).judgement
        assert (outcome, failure) == (Outcome.UNKNOWN, Failure.UNEXPECTED)
        assert "HTTP 404" in reason
        assert headers.get("server", "").lower().split("/")[0].split(" ")[0] in reason


OWN = {
    "no record": {"error": "Nest not found"},
    "no room": {"error": "Nest is no longer active"},
    "neither": {"error": "Nest not found or no longer active"},
    "in other words": {"error": "Nest has ended", "code": "GONE"},
    "with a flag": {"error": True, "message": "Nest not found"},
}


@pytest.mark.parametrize("operation", ASKED)
@pytest.mark.parametrize("words", OWN)
def test_the_apis_own_no_is_a_proof_in_its_own_words(words, operation):
    form = Form()
    form.learn(E, worded=True)
    for known in (None, form):
        judgement = find(operation, heard(404, E, OWN[words]), known).judgement
        assert (judgement.outcome, judgement.failure) == (Outcome.ABSENT, Failure.NOT_FOUND)
        assert judgement.reason in OWN[words].values()


@pytest.mark.parametrize(
    ("headers", "body"),
    [({"server": "Kestrel", "content-length": "0"}, None), (D | {"content-type": "application/problem+json"}, PROBLEM)],
    ids=["nothing", "a problem"],
)
def test_what_a_framework_says_is_the_apis_no_where_it_is_known_to_serve_it(headers, body):
    form = Form()
    untold = find(Operation.GUEST, heard(404, headers, body), form).judgement
    assert untold.outcome is Outcome.UNKNOWN
    assert untold.reason.endswith("no answer has shown yet that the Nests API is behind it")
    known = find(Operation.INFO, heard(200, D, INFO), form)
    assert (known.sure, known.worded) == (True, False)
    form.learn(D, worded=known.worded)
    assert find(Operation.GUEST, heard(404, headers, body), form).judgement.outcome is Outcome.ABSENT
    elsewhere = headers | {"server": "nginx"}
    assert find(Operation.GUEST, heard(404, elsewhere, body), form).judgement.outcome is Outcome.UNKNOWN


OTHERWISE = {
    "another server": (E | {"server": "envoy"}, "served by envoy"),
    "no limits": ({name: E[name] for name in E if name != "ratelimit-policy"}, "without the ratelimit-policy"),
    "no ETag": ({name: E[name] for name in E if name != "etag"}, "without the etag"),
    "another type": (E | {"content-type": "text/html"}, "without the JSON content type"),
}


@pytest.mark.parametrize("what", OTHERWISE)
def test_a_no_in_the_right_words_and_another_form_proves_nothing(what):
    headers, words = OTHERWISE[what]
    form = Form()
    form.learn(E | {"server": "nginx/1.24"} if what == "another server" else E, worded=True)
    outcome, failure, _, reason = find(Operation.INFO, heard(404, headers, {"error": "Nest not found"}), form).judgement
    assert (outcome, failure) == (Outcome.UNKNOWN, Failure.UNEXPECTED)
    assert words in reason


def test_what_one_answer_lacks_is_no_mark_of_the_form():
    form = Form()
    form.learn(E)
    form.learn({name: E[name] for name in E if name != "etag"} | {"server": "nginx"})
    no = heard(404, {name: E[name] for name in E if name != "etag"}, {"error": "Nest not found"})
    assert find(Operation.INFO, no, form).judgement.outcome is Outcome.ABSENT


@pytest.mark.parametrize("operation", ASKED)
def test_an_unknown_path_is_the_operators_to_mend(operation):
    judgement = find(operation, heard(404, E, {"error": "Endpoint not found"})).judgement
    assert (judgement.outcome, judgement.failure) == (Outcome.UNKNOWN, Failure.WRONG_PATH)


def test_a_date_of_before_the_question_makes_a_no_a_copy():
    outcome, failure, _, reason = find(Operation.INFO, heard(404, E, OWN["no record"]), late_s=12.4).judgement
    assert (outcome, failure) == (Outcome.UNKNOWN, Failure.CACHED)
    assert "12 s older than the question" in reason


PAGES = {
    "a web app": (served(kind=HTML), "<!doctype html><title>Nests</title><div id=root></div>"),
    "nothing": ({}, ""),
    "an empty object": (E, {}),
    "null": (E, "null"),
    "a list": (E, [INFO]),
    "health of something": (E, {"status": "ok"}),
    "an echo": (E, {"host": {"hostname": "nests.example"}, "http": {}}),
    "an error": (E, {"error": "Nest not found"}),
    "an error in a flag": (E, {"success": False, "error": True, "message": "nope"}),
    "an error beside all the rest": (E, INFO | {"roomId": "r", "token": JWT, "error": "LiveKit is down"}),
    "a token that is none": (E, {"token": {}, "host": "nests.example", "roomId": 5}),
    "a token in two lines": (E, {"token": JWT + "\n", "roomId": "a\nb"}),
    "a room that cannot be asked": (E, '{"roomId": "\\ud800", "token": "\\ud800"}'),
    "a room of 1 MB": (E, {"roomId": "x" * 1_000_000, "token": "x" * 1_000_000}),
}


@pytest.mark.parametrize("operation", [*ASKED, Operation.CREATE, Operation.RESTART])
@pytest.mark.parametrize("what", PAGES)
def test_a_200_that_does_not_hold_what_was_asked_proves_nothing(what, operation):
    judgement = find(operation, heard(200, *PAGES[what])).judgement
    assert judgement.outcome is Outcome.UNKNOWN
    assert judgement.failure in (Failure.UNEXPECTED, Failure.BAD_TOKEN)
    assert judgement.reason


@pytest.mark.parametrize("what", [name for name in PAGES if name != "health of something"])
def test_health_is_what_the_api_says_of_itself(what):
    assert find(Operation.HEALTH, heard(200, *PAGES[what])).judgement.outcome is Outcome.UNKNOWN
    own = {"status": "healthy", "timestamp": "2026-01-01T00:00:00Z", "version": "1.0.0"}
    assert find(Operation.HEALTH, heard(200, E, own)).judgement.outcome is Outcome.ACCEPTED


@pytest.mark.parametrize(("status", "body"), [(200, ""), (200, {"success": True}), (202, ""), (204, "x"), (205, "")])
def test_only_a_204_deletes(status, body):
    assert find(Operation.DELETE, heard(status, E, body)).judgement.outcome is Outcome.UNKNOWN
    assert find(Operation.DELETE, heard(204, {})).judgement.outcome is Outcome.ACCEPTED


def test_a_204_in_another_form_deletes_nothing():
    form = Form()
    form.learn(E)
    bare = {"ratelimit-policy": "100;w=900"}
    assert find(Operation.DELETE, heard(204, bare), form).judgement.outcome is Outcome.ACCEPTED
    assert find(Operation.DELETE, heard(204, {}), form).judgement.outcome is Outcome.UNKNOWN
    assert find(Operation.DELETE, heard(204, bare | {"server": "nginx"}), form).judgement.outcome is Outcome.UNKNOWN


SURE = {
    "an info": (Operation.INFO, 200, INFO),
    "a token": (Operation.GUEST, 200, {"token": JWT}),
    "a nest": (Operation.CREATE, 200, {"roomId": "r", "endpoints": [], "token": JWT}),
    "no authorization": (Operation.JOIN, 401, {"error": "Missing or invalid authorization header"}),
}


@pytest.mark.parametrize("what", SURE)
def test_what_only_this_api_says_is_sure(what):
    operation, status, body = SURE[what]
    assert find(operation, heard(status, E, body)).sure


@pytest.mark.parametrize(("status", "body"), [(401, {"error": "Unauthorized"}), (404, OWN["no record"]), (500, INFO)])
def test_what_others_say_too_is_not(status, body):
    assert not find(Operation.JOIN, heard(status, E, body)).sure


@pytest.mark.parametrize("what", ["an info", "a token", "a nest", "no content"])
@pytest.mark.parametrize("copy", [{"age": "3"}, {"x-cache": "MISS, HIT"}, {"cf-cache-status": "STALE"}, {}], ids=str)
def test_a_copied_yes_proves_nothing_since_it_may_be_over(what, copy):
    operation, status, body = SURE.get(what, (Operation.DELETE, 204, ""))
    said = find(operation, heard(status, E | copy, body), late_s=0.0 if copy else 9.0)
    assert (said.judgement.outcome, said.judgement.failure) == (Outcome.UNKNOWN, Failure.CACHED)
    assert "it was so once" in said.judgement.reason
    assert not said.sure


ANY_JSON = st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists)
NAMES = st.sampled_from(["error", "message", "title", "status", "traceId", "host", "speakers", "token", "roomId"])


@given(
    operation=st.sampled_from(Operation),
    status=st.integers(100, 599),
    headers=st.dictionaries(st.sampled_from([*E, "server", "age", "x-cache"]), st.text(max_size=20)),
    body=st.none() | st.dictionaries(NAMES, ANY_JSON),
    text=st.text(),
    learned=st.lists(st.sampled_from([E, D])),
)
def test_any_answer_is_judged(operation, status, headers, body, text, learned):
    form = Form()
    for each in learned:
        form.learn(each)
    outcome, failure, layer, reason = find(operation, Heard(status, headers, body, text), form).judgement
    assert (failure is None) is (outcome in (Outcome.VISIBLE, Outcome.ACCEPTED))
    assert (failure is None) is (layer is None)
    assert bool(reason) is (failure is not None)
    assert status == 404 or outcome is not Outcome.ABSENT
    assert 200 <= status < 300 or outcome not in (Outcome.VISIBLE, Outcome.ACCEPTED)


@pytest.mark.slow
@given(st.binary() | st.text().map(str.encode) | st.integers(1, 9).map(lambda n: b"[" * 10**5 + b"9" * 10**n))
def test_any_bytes_are_an_object_or_none(content):
    found = json_object(content)
    assert find(Operation.INFO, Heard(200, {}, found, content.decode("utf-8", "replace"))).judgement.reason
