"""From laws to policies: what to say, when to poll, when to give up; replayed, judged, written down. Pure."""
