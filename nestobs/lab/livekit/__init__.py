"""LiveKit as the lab has it: the real server as a child, or a stand-in that says so; rooms, tokens, webhooks."""
