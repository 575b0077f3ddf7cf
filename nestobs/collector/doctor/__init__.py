"""Is everything there, and does it work? The doors of a target, and a throwaway room behind them.

doors         what can be looked at without making anything
room          a room of our own: made, published, joined, restarted, deleted, and looked for
tokens        what a token is worth before anybody has tried it
judgement     what came of the room, step by step, each with its cause
steps         a step, its evidence, and the words of a bug report
verdict       what it all comes to, as one id, one sentence and one exit code
examination   all of it, in at most 20 requests and 30 s
"""

from nestobs.collector.doctor.doors import Check
from nestobs.collector.doctor.examination import Examination, examine

__all__ = ["Check", "Examination", "examine"]
