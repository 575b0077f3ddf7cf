"""Many vantages that agree without a coordinator: through the relays, which all of them can see.

nests      the nests of the fleet's host key, watched by each vantage as their host watches them
vantages   vantages on this machine, each in a process and with a store of its own
"""
