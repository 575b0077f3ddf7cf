"""How a client joins: the policy, the decision and its budget, free of any clock, network or disk."""
