"""Temporary."""

from nestobs.host import *  # noqa: F403
from nestobs.host import Ask, Campaign, Report, bind, greet, poll, run  # noqa: F401
