"""How a notebook becomes a page, and how pages are kept: on a schedule, whole or not at all."""
