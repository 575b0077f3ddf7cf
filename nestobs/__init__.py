"""Observability for Nests: real joins, propagation intervals and tuned retries."""

__version__ = "0.1.0"
