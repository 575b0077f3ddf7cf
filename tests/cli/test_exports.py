"""metrics: printed, served, kept in a file; traces: sent to who is named; and what is said where it cannot be."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from contextlib import contextmanager

import httpx
import pytest

from worlds import prometheus
from worlds.command_line import is_one_sentence
from worlds.otlp import receiver

pytestmark = pytest.mark.slow


@contextmanager
def started(*words: str):
    """A command that goes on, as a process; ended by SIGTERM."""
    running = subprocess.Popen(
        [sys.executable, "-m", "nestobs", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        out, err = running.communicate(timeout=30)
        assert (running.returncode, out, err) == (0, "", "")


def test_metrics_are_printed_and_promtool_reads_them(stored, run):
    said = run("metrics")
    assert said.code == 0
    prometheus.checked(said.out.encode())
    assert "nestobs_rows_total 3.0" in said.out
    assert said.err == ""


def test_metrics_of_the_example_are_printed(run):
    assert "nestobs_rows_total 7406.0" in run("metrics", "--store", "example").out


@pytest.mark.parametrize("address", ["0", "127.0.0.1:0", "[::1]:0"])
def test_metrics_are_served_until_it_is_stopped(stored, address):
    with started("metrics", "--listen", address) as serving:
        (url,) = re.findall(r"http://\S+", serving.stderr.readline())
        assert url.startswith("http://[::1]:" if "::" in address else "http://127.0.0.1:")
        answer = httpx.get(url)
        assert answer.status_code == 200
        assert "nestobs_rows_total 3.0" in answer.text


def test_a_file_is_kept_until_it_is_stopped(stored, home):
    file = home / "nestobs.prom"
    with started("metrics", "--textfile", str(file), "--every", "50ms"):
        while not file.exists():
            pass
        first = file.stat().st_ino
        while file.stat().st_ino == first:
            pass
    prometheus.checked(file.read_bytes())


def test_a_file_is_written_once(stored, home, run):
    said = run("metrics", "--textfile", "nestobs.prom", "--once")
    assert (said.code, said.out, said.err) == (0, "", "")
    assert "nestobs_rows_total 3.0" in (home / "nestobs.prom").read_text("utf-8")


def test_no_store_is_one_sentence(run):
    is_one_sentence(run("metrics", "--store", "nowhere"), 5, "no store")


def test_a_port_that_is_taken_is_one_sentence(stored, taken, run):
    is_one_sentence(run("metrics", "--listen", taken), 2, "--listen")


@pytest.mark.parametrize("address", ["here", "host:", ":9464", "127.0.0.1:99999", "-1", "host:port", ""])
def test_what_is_no_address_is_said(address, run):
    said = run("metrics", "--listen", address)
    assert said.code == 2
    assert "is no address: write HOST:PORT" in said.err


def test_a_file_and_an_address_are_one_too_many(run):
    assert run("metrics", "--listen", "0", "--textfile", "x.prom").code == 2


# traces


def test_traces_go_where_they_are_told_to(observed, run):
    with receiver() as received:
        said = run("traces", "--store", str(observed[1]), "--to", received.url, "--json")
    assert said.data == {"spans": len(received.spans)}
    assert {path for path, _, _ in received.requests} == {"/v1/traces"}
    assert sum(span["name"] == "nest" for span in received.spans) == 2
    assert {span["nestobs.vantage"] for span in received.spans} == {"Computer A", "Computer B"}


@pytest.mark.parametrize(
    ("variable", "path", "asked"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/otlp/", "/otlp/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/take/them", "/take/them"),
    ],
)
def test_traces_go_where_opentelemetrys_variables_say(variable, path, asked, observed, run, monkeypatch):
    with receiver() as received:
        monkeypatch.setenv(variable, received.url + path)
        assert run("traces", "--store", str(observed[1])).code == 0
    assert {path for path, _, _ in received.requests} == {asked}


def test_a_window_without_nests_sends_nothing(observed, run):
    with receiver() as received:
        said = run("traces", "--store", str(observed[1]), "--to", received.url, "--window", "2020-01-01")
    assert (said.code, said.out) == (0, "0 spans sent\n")
    assert not received.requests


def test_a_receiver_that_refuses_is_one_sentence(observed, run):
    with receiver(lambda _: (404, {}, b"")) as received:
        said = run("traces", "--store", str(observed[1]), "--to", received.url)
    is_one_sentence(said, 3, "answered 404", "--to")


@pytest.mark.parametrize("to", ["", "collector:4318", "ftp://host", "http://", "http://host:99999"], ids=range(5))
def test_traces_to_nobody_are_one_sentence(to, stored, run):
    is_one_sentence(run("traces", "--to", to), 2, "no receiver", "OTEL_EXPORTER_OTLP_ENDPOINT")


def test_a_receivers_password_is_not_said(observed, run, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "1")
    said = run("traces", "--store", str(observed[1]), "--to", "http://user:hunter2@127.0.0.1:9")
    is_one_sentence(said, 3, "it cannot be reached")
    assert "hunter2" not in said.err


def test_without_the_extra_it_is_said_how_to_install_it(stored):
    """As in an environment in which OpenTelemetry is not installed."""
    words = "import sys; sys.modules['opentelemetry.exporter'] = None; from nestobs.cli.main import main; "
    words += "sys.exit(main(['traces', '--to', 'http://127.0.0.1:9']))"
    ended = subprocess.run([sys.executable, "-c", words], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert re.fullmatch(r"nestobs: traces need OpenTelemetry [^\n]*: pip install 'nestobs\[otel\]'\n", ended.stderr)
