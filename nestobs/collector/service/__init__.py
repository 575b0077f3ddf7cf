"""One process that observes by a plan: `nestobs run`.

settings    what it is told to do
hours       the instants of its plan, on a grid, and the time they go by
memory      what it remembers of its plan when it is killed
bursts      canaries on their schedule, within the budget
children    reports and their pruning, as processes of their own
state       how it is
health      that, for others to ask: /health and /metrics
service     all of it together
"""
