"""Every way of saying that an answer is a copy is understood, and no other field is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nestobs.sources.caching import ServerClock, cache_fields, copied

S = 1_000_000_000

COPIES = {
    "an age": {"age": "3"},
    "two ages": {"age": "0, 3"},
    "an age and a space": {"age": " 17 "},
    "an age with a fraction": {"age": "0.5"},
    "an age in odd digits": {"age": "\xb2"},
    "an age of 5 000 digits": {"age": "9" * 5_000},
    "an age below nothing": {"age": "-1"},
    "an age of the cache's own": {"x-cache-age": "37"},
    "CDN77's age": {"x-77-age": "120"},
    "the age of a cache that nobody knows": {"x-acme-age": "7"},
    "Batcache": {"x-nananana": "Batcache-Hit"},
    "a gateway's flag": {"apigw-cache": "TRUE"},
    "a count of hits": {"x-hits": "3"},
    "a count of hits by name": {"x-varnish-hits": "2"},
    "since when": {"x-cached-since": "2026-11-27T12:00:00Z"},
    "at what time": {"x-cache-time": "1796000000"},
    "from where": {"x-served-from": "cache"},
    "from what source": {"x-data-source": "edge-cache"},
    "Squid": {"x-cache": "HIT from proxy.example"},
    "Squid's look-up": {"x-cache": "MISS from a", "x-cache-lookup": "HIT from a:3128"},
    "CloudFront": {"x-cache": "Hit from cloudfront"},
    "CloudFront, asked anew": {"x-cache": "RefreshHit from cloudfront"},
    "Fastly, its shield": {"x-cache": "HIT, MISS", "x-cache-hits": "1, 0"},
    "Fastly, its edge": {"x-cache": "MISS, HIT"},
    "Fastly, counts alone": {"x-cache-hits": "0, 2"},
    "Akamai": {"x-cache": "TCP_HIT from a23-51-224-170.deploy.akamaitechnologies.com (AkamaiGHost/9.9)"},
    "Akamai, in memory": {"x-cache": "TCP_MEM_HIT from a1 (AkamaiGHost/11.4)"},
    "Akamai, asked anew": {"x-cache": "TCP_REFRESH_HIT from a1"},
    "Akamai's own field": {"akamai-cache-status": "Miss from child, Hit from parent"},
    "Akamai, stale": {"akamai-cache-status": "HitStale from child"},
    "Edgio": {"x-cache": "TCP_EXPIRED_HIT"},
    "Azure": {"x-cache": "TCP_REMOTE_HIT"},
    "Tencent": {"x-cache-lookup": "Cache Hit"},
    "nginx": {"x-cache-status": "HIT"},
    "nginx, by another name": {"x-proxy-cache": "HIT"},
    "nginx, for FastCGI": {"x-fastcgi-cache": "STALE"},
    "nginx, asked anew": {"x-cache-status": "REVALIDATED"},
    "nginx, old while it fetches": {"x-cache-status": "UPDATING"},
    "Cloudflare": {"cf-cache-status": "HIT"},
    "Cloudflare, stale": {"cf-cache-status": "STALE"},
    "Cloudflare, asked anew": {"cf-cache-status": "REVALIDATED"},
    "Cloudflare, while it fetches": {"cf-cache-status": "UPDATING"},
    "bunny": {"cdn-cache": "HIT"},
    "Vercel": {"x-vercel-cache": "HIT"},
    "Vercel, stale": {"x-vercel-cache": "STALE"},
    "Vercel, made before": {"x-vercel-cache": "PRERENDER"},
    "Next.js": {"x-nextjs-cache": "STALE"},
    "Drupal": {"x-drupal-cache": "HIT"},
    "Drupal, parts": {"x-drupal-dynamic-cache": "HIT"},
    "LiteSpeed": {"x-litespeed-cache": "hit,private"},
    "Rack": {"x-rack-cache": "fresh"},
    "Rack, stale": {"x-rack-cache": "stale, valid, store"},
    "a flag": {"x-from-cache": "1"},
    "another": {"x-cached": "true"},
    "Sucuri": {"x-sucuri-cache": "HIT"},
    "Varnish": {"x-varnish": "32770 32769"},
    "Varnish behind Varnish": {"x-varnish": "1077931, 32770 32769"},
    "RFC 9211": {"cache-status": "ExampleCache; hit"},
    "RFC 9211, in a list": {"cache-status": '"Origin"; fwd=uri-miss; stored, "CDN, Inc."; hit; ttl=-30'},
    "RFC 9211, stale": {"cache-status": "Example; fwd=stale; fwd-status=304"},
    "RFC 9211, unchanged": {"cache-status": "Example; fwd=uri-miss; fwd-status=304"},
    "RFC 9211, collapsed": {"cache-status": "Example; fwd=uri-miss; collapsed"},
    "RFC 9211, explicit": {"cache-status": "Example; hit=?1"},
    "Netlify": {"cache-status": '"Netlify Edge"; hit'},
    "a warning": {"warning": '110 anderson/1.3.37 "Response is stale"'},
    "two warnings": {"warning": '214 a "x, y", 111 b "Revalidation Failed"'},
    "a timing": {"server-timing": "cdn-cache; desc=HIT, edge; dur=1"},
    "a timing in quotes": {"server-timing": 'origin;dur=0, cache;desc="Hit (memory)"'},
    "a timing by name": {"server-timing": "cdn-cache-hit,cdn-pop;desc=FRA56"},
    "a field of 60 kB": {"x-cache": "MISS, " * 10_000},
    "a status of 60 kB": {"cache-status": '"a' * 30_000},
}
FRESH = {
    "nothing": {},
    "an age of nothing": {"age": "0"},
    "a miss": {"x-cache": "MISS"},
    "two misses": {"x-cache": "MISS, MISS", "x-cache-hits": "0, 0", "age": "0"},
    "CloudFront": {"x-cache": "Miss from cloudfront", "via": "1.1 abc.cloudfront.net (CloudFront)"},
    "CloudFront, an error": {"x-cache": "Error from cloudfront"},
    "Akamai": {"x-cache": "TCP_MISS from a1 (AkamaiGHost/11.4)"},
    "Akamai, fetched anew": {"x-cache": "TCP_REFRESH_MISS from a1"},
    "Azure": {"x-cache": "CONFIG_NOCACHE"},
    "Cloudflare": {"cf-cache-status": "DYNAMIC", "server": "cloudflare"},
    "Cloudflare, bypassed": {"cf-cache-status": "BYPASS"},
    "nginx, fetched anew": {"x-cache-status": "EXPIRED"},
    "Varnish": {"x-varnish": "32770", "via": "1.1 varnish (Varnish/7.1)", "age": "0"},
    "two Varnishes": {"x-varnish": "32770, 98305"},
    "Varnish that never keeps it": {"x-cache": "hit-for-pass"},
    "RFC 9211": {"cache-status": '"CDN"; fwd=uri-miss; stored'},
    "RFC 9211, explicit": {"cache-status": "CDN; hit=?0; fwd=bypass"},
    "what may be kept": {
        "cache-control": "max-age=3, stale-while-revalidate=9",
        "cdn-cache-control": "stale-if-error=9",
    },
    "a key": {"x-cache-key": "/api/v1/nests/hit/guest", "cache-tag": "hit", "x-cacheable": "YES"},
    "another warning": {"warning": '299 - "old API"'},
    "a timing": {"server-timing": "cdn-cache; desc=MISS, hit; dur=3, db; desc=hit"},
    "who served it": {"x-served-by": "cache-fra-1", "x-timer": "S1,VS0,VE1", "etag": 'W/"hit"'},
    "a flag that is not set": {"x-from-cache": "0"},
    "a gateway's flag that is not set": {"apigw-cache": "FALSE"},
    "what is to be done with caches": {"x-no-cache": "1", "x-use-cache": "true", "x-cache-bypass": "1"},
    "no hits": {"x-hits": "0"},
    "hits of a limit": {"x-ratelimit-hits": "3", "x-rate-limit-hits": "3"},
    "never kept": {"x-cached-since": "-", "x-cache-date": "none"},
    "from the origin": {"x-served-from": "origin", "x-data-source": "database", "x-forwarded-from": "10.0.0.1"},
    "an age of none": {"x-acme-age": "0"},
    "how old it may become": {"x-max-age": "60", "x-cdn-max-age": "60"},
    "a page": {"x-page": "3", "x-language": "en"},
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_is_told(how):
    assert copied(COPIES[how])


@pytest.mark.parametrize("how", FRESH)
def test_what_is_no_copy_is_not(how):
    assert copied(FRESH[how]) == ""


def test_what_told_it_is_said_in_a_line():
    assert copied({"date": "x", "x-cache": "HIT  from\ta"}) == "x-cache: HIT from a"


def test_a_row_keeps_what_caches_said_within_bounds():
    said = {f"x-cache-{number}": "a" * 1_000 for number in range(50)} | {"server": "x"}
    kept = cache_fields(said)
    assert len(kept) == 20
    assert set(map(len, kept.values())) == {100}


@pytest.mark.parametrize("how", COPIES)
def test_a_row_keeps_what_told_that_it_was_a_copy(how):
    told = copied(COPIES[how]).partition(":")[0]
    assert told in cache_fields(COPIES[how])


@given(st.dictionaries(st.sampled_from(sorted({name for each in COPIES.values() for name in each})), st.text()))
def test_any_fields_are_judged(headers):
    assert len(copied(headers)) <= 60
    assert set(cache_fields(headers)) <= set(headers)


class TestDates:
    """The server's clock is `ahead_s` of ours; answers take no time."""

    def clock(self, ahead_s, *at_s):
        clock = ServerClock()
        for at in at_s:
            clock.learn(int(at + ahead_s) * S, round(at * S))
        return clock

    @pytest.mark.parametrize("ahead_s", [0.0, -1.3, -3_600.0, 3_600.0])
    @pytest.mark.parametrize("age_s", [3.0, 60.0, 86_400.0])
    def test_a_date_of_before_the_question_is_late_however_far_the_clocks_are_apart(self, ahead_s, age_s):
        clock = self.clock(ahead_s, 90_000.2, 90_001.7, 90_003.1)
        assert clock.late_s(int(90_010.5 + ahead_s - age_s) * S, round(90_010.5 * S)) > 0

    @pytest.mark.parametrize("ahead_s", [0.0, -1.3, -3_600.0, 3_600.0])
    @pytest.mark.parametrize("at_s", [90_010.0, 90_010.01, 90_010.5, 90_010.999])
    def test_a_date_of_now_or_of_the_second_before_is_not(self, ahead_s, at_s):
        clock = self.clock(ahead_s, 90_000.2, 90_001.7, 90_003.1)
        for lag in (0, 1):
            assert clock.late_s((int(at_s + ahead_s) - lag) * S, round(at_s * S)) == 0.0

    def test_before_anything_is_known_clocks_may_be_ten_minutes_apart(self):
        assert ServerClock().late_s(90_000 * S, 90_600 * S) == 0.0
        assert ServerClock().late_s(90_000 * S, 93_600 * S) == 2_999.0

    def test_a_clock_that_is_set_back_is_followed(self):
        clock = self.clock(0.0, *range(100, 110))
        assert clock.late_s(80 * S, 111 * S) > 0
        for at in range(111, 160):
            clock.learn((at - 30) * S, at * S)
        assert clock.late_s(130 * S, 160 * S) == 0.0

    def test_without_a_date_nothing_is_late(self):
        assert ServerClock().late_s(None, 1) == 0.0
