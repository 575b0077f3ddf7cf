"""A process with a media visit under way, to be ended in tests: `python -m worlds.visitor`.

Where to go comes on its standard input: LiveKit's URL, a room, a token. It says what came of the visit and stays.
"""

from __future__ import annotations

import asyncio
import json
import sys

from nestobs.sources.livekit import LiveKit
from nestobs.sources.vantage import Trace, Vantage


async def main() -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    url, room, token = (await lines.readline()).decode().split()
    async with LiveKit(Vantage("Computer A", "run", lambda _: None), url) as livekit:
        row, _ = await livekit.media(Trace(room=room), token)
        print(json.dumps({"outcome": row.outcome, "imported": "livekit.rtc" in sys.modules}), flush=True)
        await lines.readline()


if __name__ == "__main__":
    asyncio.run(main())
