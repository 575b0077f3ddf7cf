"""What `nestobs prove` wrote, read back: predicted beside realised, and whether the change helped."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from nestobs.errors import UsageError
from nestobs.figures import canvas
from nestobs.reports.display import many
from nestobs.store.files import text_in
from nestobs.tuning.prediction import CELLS, PAIRED
from nestobs.tuning.replay import METRICS


@dataclass(frozen=True, slots=True)
class Proved:
    """What a proof.json says: cells as prediction.cells gives them; when: its window; words: a sentence about it;
    pairs: as prediction.paired; answer: whether the change helped, sentences. Both empty where an older nestobs wrote
    it."""

    cells: pd.DataFrame
    when: str
    words: str
    pairs: pd.DataFrame
    answer: tuple[str, ...]


def read_proof(path: str) -> Proved:
    """What `nestobs prove` wrote. Raises UsageError for a file that is none."""
    try:
        told = json.loads(text_in(path))
        rows = [
            (str(policy["name"]), metric, *_cell(policy["predicted"][metric], policy["realised"][metric]))
            for policy in told["policies"]
            for metric in METRICS
            if metric in policy["realised"]
        ]
        cells = pd.DataFrame(rows, columns=list(CELLS)).astype(CELLS)
        window = pd.Series(pd.to_datetime(list(told.get("window") or ()), utc=True))
        pairs = pd.DataFrame(told.get("paired") or [], columns=list(PAIRED)).astype(PAIRED)
        when = "" if window.empty else canvas.window(window)
        return Proved(cells, when, _proof_words(told, cells), pairs, _answer(told))
    except (OSError, ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError) as error:
        raise UsageError(f"{path} is no proof ({error}): give the proof.json of nestobs prove, or nothing") from error


def _answer(told: dict[str, Any]) -> tuple[str, ...]:
    said = (dict(told.get("verdict") or {}).get("said"), *(told.get(name) for name in ("elsewhere", "power")))
    return tuple(str(one) for one in said if one)


def _cell(predicted: dict[str, Any], realised: dict[str, Any]) -> tuple[Any, ...]:
    """value, lower, upper, realised, error_s, n, inside; null stands for what was not finite."""
    told = (predicted["value"], predicted["lower"], predicted["upper"], realised["value"], realised["error_s"])
    others = (math.nan, -math.inf, math.inf, math.nan, math.nan)
    read = (other if one is None else float(one) for one, other in zip(told, others, strict=True))
    return *read, int(realised["n"]), realised["inside"]


def _proof_words(told: dict[str, Any], cells: pd.DataFrame) -> str:
    judged = cells["inside"].dropna().astype(bool)
    names = " and ".join(dict.fromkeys(cells["policy"]))
    kind = str(told.get("livekit", {}).get("kind", ""))
    return (
        f"{many(int(told['nests']), 'fresh nest')} of {told['scenario']} (seed {told['seed']}), each joined for real"
        f" under {names}, strangers to each other, without media: {int(judged.sum())} of {len(judged)} numbers came"
        f" inside the interval that was predicted for so many joins."
        + (" LiveKit was a stand-in." if kind == "stand-in" else "")
    )
