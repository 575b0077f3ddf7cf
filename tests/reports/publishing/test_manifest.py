"""The manifest is plain JSON whatever a notebook shows, and holds neither secrets nor places."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from nbformat.v4 import new_code_cell, new_notebook, new_output

from nestobs.reports import ReportError
from nestobs.reports.display import RESULT
from nestobs.reports.publishing.manifest import MOST_REASONS, Source, iso, manifest, redacted, result
from nestobs.reports.publishing.schedule import dumps
from worlds import scheduled_reports as reports
from worlds.archives import DAY, SOURCE
from worlds.secrets_shown import SECRETS

pytestmark = pytest.mark.slow


def executed(*shown: Any) -> Any:
    outputs = [new_output("display_data", {RESULT: each}) for each in shown]
    return new_notebook(cells=[new_code_cell("x", outputs=outputs)])


def made(found: dict[str, Any], **more: Any) -> dict[str, Any]:
    about = manifest("daily", DAY, {"n": 3}, SOURCE, found, began_at=DAY.end, made_at=DAY.end + 1_500_000_000, **more)
    assert json.loads(dumps(about)) == about
    return about


def test_it_says_what_it_is_about() -> None:
    about = made(
        {"verdict": "breached", "reasons": ["so"], "coverage": 0.25, "rows": {"joins": 2}, "facts": {"a": None}}
    )
    assert about["schema"] == 1
    assert about["window"] == {"name": "2026-01-01", "start": "2026-01-01T00:00:00Z", "end": "2026-01-02T00:00:00Z"}
    assert (about["verdict"], about["reasons"], about["coverage"], about["error"]) == ("breached", ["so"], 0.25, None)
    assert (about["rows"], about["facts"], about["parameters"]) == ({"joins": 2}, {"a": None}, {"n": 3})
    assert (about["duration_s"], about["made_at"]) == (1.5, "2026-01-02T00:00:01.500000Z")
    assert set(about["versions"]) == {"nestobs", "python", "papermill", "plotly"}


def test_a_notebook_without_a_result_is_good_when_it_ran_and_failed_when_it_did_not() -> None:
    assert made(result(executed()))["verdict"] == "good"
    failed = made({}, error="no luck")
    assert (failed["verdict"], failed["reasons"], failed["error"]) == ("failed", ["no luck"], "no luck")


@pytest.mark.parametrize("shown", [[], "good", {}, {"verdict": "fine"}, {"verdict": ["good"]}, None, 3])
def test_a_malformed_result_is_an_error(shown: object) -> None:
    with pytest.raises(ReportError, match="none that can be read"):
        result(executed(shown))


def test_numbers_that_json_has_not_and_odd_shapes_become_what_it_has() -> None:
    facts = {"a": float("nan"), "b": "inf", "c": True, "d": [1], "e": 1e300, "f": float("-inf")}
    about = made({"verdict": "good", "reasons": "not a list", "coverage": "all", "rows": [1], "facts": facts})
    assert about["facts"] == {"a": None, "b": None, "c": True, "d": "[1]", "e": 1e300, "f": None}
    assert (about["reasons"], about["rows"], about["coverage"]) == ([], {}, "all")


def test_hostile_text_is_one_clean_line_and_bounded() -> None:
    hostile = "<script>\x00\x1b[31m\u202e\n]]>" + "x" * 1_000_000
    about = made({"verdict": "good", "reasons": [hostile] * 5_000, "facts": {hostile: hostile}})
    assert len(about["reasons"]) == MOST_REASONS
    said = dumps(about)
    assert len(said) < 300_000
    assert not set("\x00\x1b\u202e") & set("".join(about["reasons"]))
    assert about["reasons"][0].startswith("<script>[31m ]]>x")  # data here; every page escapes it


@pytest.mark.parametrize("secret", SECRETS.values(), ids=SECRETS.keys())
def test_what_looks_like_a_secret_is_taken_out(secret: str) -> None:
    about = made({"verdict": "good", "reasons": [f"said {secret} aloud"], "facts": {"a": secret}}, error="")
    assert secret.rsplit(maxsplit=1)[-1] not in dumps(about)
    assert "[secret]" in about["reasons"][0]
    assert secret.rsplit(maxsplit=1)[-1] not in redacted(f'{{"x": "{secret}"}}')


@pytest.mark.parametrize("around", ["x-{}", "{}-x", "eyJ-{}", "{}.x", "a.{}", "eyJ-eyJ.{}", "{0}.{0}", "?t={}&x"])
def test_a_token_is_taken_out_whatever_it_is_grown_together_with(around: str) -> None:
    parts = ("eyJhbGciOiJIUzI1NiJ9", "eyJpc3MiOiJrZXkifQ", "c2lnbmF0dXJl")
    assert not [part for part in parts if part in redacted(around.format(".".join(parts)))]


def test_numbers_in_base64_and_plain_words_stay_as_they_are() -> None:
    for text in (
        "bdata eyJhbGciOiJIUzI1NiJ9AAAAeyJpc3MiOiJBUElrZXkxMjMifQ",
        "Nostr event",
        "Basic facts are known",
        "a/b",
    ):
        assert redacted(text) == text


def test_places_of_this_machine_are_cut(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here, package = Path.cwd(), Path(__file__).resolve().parents[3]
    assert redacted(f"{here}/store and {here}: {package}/nestobs/store.py:3") == "store and .: nestobs/store.py:3"
    assert redacted("/srv/data/store", Path("/srv/data")) == "store"
    assert redacted(f"https://nests.example{here}") == f"https://nests.example{here}"
    assert redacted(f"{here}less") == f"{here}less"


def test_the_digest_changes_with_the_notebooks_code_and_with_the_rows_of_the_window(tmp_path: Path) -> None:
    notebook, store = reports.write(tmp_path / "daily.ipynb"), reports.store(tmp_path / "store")
    first = Source.of(notebook, store, DAY)
    assert Source.of(notebook, store, DAY) == first
    other_rows = Source.of(notebook, store, DAY.earlier(1))
    assert (other_rows.notebook == first.notebook, other_rows.observations == first.observations) == (True, False)
    other_code = Source.of(reports.write(tmp_path / "daily.ipynb", "1"), store, DAY)
    assert (other_code.notebook == first.notebook, other_code.observations == first.observations) == (False, True)
    assert len({first.digest, other_rows.digest, other_code.digest}) == 3


def test_instants_are_iso_8601() -> None:
    assert iso(0) == "1970-01-01T00:00:00Z"
    assert iso(1_500_000_001) == "1970-01-01T00:00:01.500000Z"
