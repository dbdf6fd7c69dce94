"""A network that is far away and not slow: each byte arrives `seconds` later, and any number of them is under way."""

from __future__ import annotations

import asyncio
import sys


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    line: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=4096)

    async def arrive() -> None:
        while True:
            at, chunk = await line.get()
            await asyncio.sleep(max(0.0, at - loop.time()))
            writer.write(chunk)
            await writer.drain()
            if not chunk:
                writer.close()
                return

    async with asyncio.TaskGroup() as group:
        group.create_task(arrive())
        while chunk := await reader.read(262_144):
            await line.put((loop.time() + seconds, chunk))
        await line.put((loop.time() + seconds, b""))


async def main(port: int, round_trip: float) -> None:
    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, server = await asyncio.open_connection("127.0.0.1", port)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass(reader, server, round_trip / 2))
                group.create_task(_pass(answers, writer, round_trip / 2))
        except ExceptionGroup:
            pass  # either end went away

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    print(listener.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
