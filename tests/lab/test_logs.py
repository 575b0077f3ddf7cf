"""The logs that a deployment writes, beside the lab's truth."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from nestobs.errors import UsageError
from nestobs.lab import Lab


@pytest.mark.parametrize("form", ["json", "plain"])
async def test_the_api_logs_what_it_does_and_no_token(form, open_lab, scenario):
    async with open_lab(scenario(), logs=form) as (lab, host):
        room = await host.create()
        tokens = [(await host.call("GET", f"/{room}")).json()["token"]]
        tokens.append((await host.http.get(f"{host.base}/{room}/guest")).json()["token"])
        await host.http.get(f"{host.base}/none/guest")
        await host.call("DELETE", f"/{room}")
        text = Path(lab.info["files"]["api-made"]).read_text()
    said = [json.loads(line)["message"] for line in text.splitlines()] if form == "json" else text.splitlines()
    for words in (
        f"Created nest {room} for host {host.keys.public}",
        f"User {host.keys.public} joined nest {room} as host",
        f"Guest join: Looking for room {room}, exists: true",
        'GET /api/v1/nests/none/guest HTTP/1.1" 404 26',
        f"Successfully deleted nest {room} by host",
    ):
        assert any(words in line for line in said), words
    assert form == "json" or all(re.match(r"20\d\d-\d\d-\d\dT[\d:.]{12}Z info: ", line) for line in said)
    assert not any(token in text for token in tokens)


async def test_without_being_asked_it_writes_none(open_lab, scenario):
    async with open_lab(scenario()) as (lab, host):
        await host.create()
        assert not list(lab.directory.glob("api-*.log"))


def test_a_form_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="json or plain"):
        Lab(["calm"], tmp_path, logs="xml")
