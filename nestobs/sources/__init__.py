"""What is observed, one module per kind of target: relay, api, livekit, webhook. Each turns a target into Observations.

They share a Vantage to write with and nothing else: no base class, no registry.
"""
