"""What a vantage is told to do for its fleet."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from nestobs.collector.polling import HORIZON_S, WANTED_POLLS

JOINERS: Final = {"none": (), "guest": (False,), "both": (True, False)}
"""By the word of an operator who joins each nest: True for somebody signed in with a fresh key, False for a guest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """host: the public key of who makes the nests, 64 hex digits. horizon_s: how long each is watched. polls: of each
    API layer of a nest, at most. joiners: who joins each, as in JOINERS."""

    host: str
    horizon_s: float = HORIZON_S
    polls: int = WANTED_POLLS
    joiners: tuple[bool, ...] = ()
