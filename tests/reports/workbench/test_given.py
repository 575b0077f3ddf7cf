"""What a notebook's first cell gives is of the kind that is wanted, or told in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

from nestobs.errors import UsageError
from nestobs.reports.workbench.given import _KINDS, given

pytestmark = pytest.mark.slow

MODULES = ("incident", "vantages", "joins", "daily", "propagation", "live", "tuning", "demo")


@given
def load(store: str, *, share: float = 0.5, most: int = 3, only: str | Sequence[str] = "", other: object = 1) -> object:
    return store, share, most, only, other


def test_what_fits_goes_through_and_none_is_the_default() -> None:
    assert load(Path("a"), share=1, most=np.int64(2), only=["b"], other=None) == (Path("a"), 1, 2, ["b"], 1)  # type: ignore[arg-type]  # the point
    assert load("a", share=None, most=None, only=None) == ("a", 0.5, 3, "", 1)  # type: ignore[arg-type]  # the point


@pytest.mark.parametrize(
    ("words", "said"),
    [({"share": "0.5"}, "share = '0.5' is not a number"), ({"share": True}, "share = True is not"),
     ({"most": 2.5}, "most = 2.5 is not a whole number"), ({"only": 5}, "only = 5 is not text"),
     ({"only": "x", "most": "y" * 500}, "most = .* is not a whole number")],
    ids=["text", "yes", "share", "number", "long"],
)  # fmt: skip  # a table
def test_what_does_not_fit_is_a_sentence(words: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said) as raised:
        load("a", **words)  # type: ignore[arg-type]  # the point
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("name", MODULES)
def test_all_that_notebooks_give_is_judged(name: str) -> None:
    loading = import_module(f"nestobs.reports.{name}").load
    kinds = {key: kind for key, kind in loading.__wrapped__.__annotations__.items() if key != "return"}
    assert {key: kind for key, kind in kinds.items() if kind not in _KINDS} == {}
