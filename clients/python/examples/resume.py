"""Follows a channel over restarts of this program: keeps its position in a file.

    python resume.py CHANNEL FILE [COUNT]

Environment: TIDINGS_SERVER (127.0.0.1:50051) and TIDINGS_TOKEN.
"""

import asyncio
import os
import sys
from pathlib import Path

from tidings import Position, Tidings


async def main(channel: str, kept: Path, count: int) -> None:
    """Prints each event once, also those that were published while this program did not run."""
    since = Position.parse(kept.read_text()) if kept.exists() else None
    server = os.environ.get("TIDINGS_SERVER", "127.0.0.1:50051")
    async with Tidings(server, token=os.environ.get("TIDINGS_TOKEN")) as tidings:
        async with tidings.subscribe(channel, since=since, rewind=0 if since else 100) as subscription:
            async for event in subscription.events(on_stale=lambda step: print("reload:", step.channel)):
                print(event.type, event.json(), flush=True)
                if event.position:
                    kept.write_text(str(event.position))
                count -= 1
                if count == 0:
                    return


asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else -1))
