"""Undoing what was made in the world, with proof.

deeds        what a run makes, in the ledger before it is made
removal      a room, and the API's record of it
withdrawal   an event, on every relay that may have it
cleanup      whatever a run or an earlier one left, by the ledger, by keys that no ledger names
"""
