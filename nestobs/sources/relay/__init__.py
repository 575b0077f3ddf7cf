"""One relay as seen from one vantage: `Relay`, and what it is made of.

client       the relay: connects, asks, publishes, subscribes, and asks again as somebody known
connection   one open connection: what is in flight on it, who the relay thinks we are
questions    one REQ, and the verdicts on its ends
flood        how much of one relay is borne
pauses       how long until it is tried again
pushes       what a subscription brings
rows         how an end becomes an observation
"""

from nestobs.sources.relay.client import Relay
from nestobs.sources.relay.questions import Looked

__all__ = ["Looked", "Relay"]
