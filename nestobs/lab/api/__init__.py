"""The Nests API of the lab: its routes, answers, records, limits and its half of NIP-98."""
