"""Why a nest could not be joined: causes as rules, each with its evidence, its confidence and what to ask next.

causes     the ids and what a rule is made of
rules      the rules' words
diagnose   observations in, causes out, one list a nest and vantage
"""

from nestobs.diagnosis.causes import Cause, Rule
from nestobs.diagnosis.diagnose import Diagnosis, Evidence, Found, diagnose, diagnose_rows
from nestobs.diagnosis.priors import Priors
from nestobs.diagnosis.rules import RULES

__all__ = ["RULES", "Cause", "Diagnosis", "Evidence", "Found", "Priors", "Rule", "diagnose", "diagnose_rows"]
