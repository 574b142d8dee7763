# SPDX-License-Identifier: Apache-2.0
"""A small HTTP server: keeps connections, answers `/` shortly and `/bytes/<n>` with n bytes. Prints `ready`."""

from __future__ import annotations

import asyncio
import sys


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode()
            size = int(path.removeprefix("/bytes/")) if path.startswith("/bytes/") else 2
            writer.write(b"HTTP/1.1 200 OK\r\nX-Backend: server\r\nContent-Length: %d\r\n\r\n" % size + b"o" * size)
            await writer.drain()
    except (asyncio.IncompleteReadError, ConnectionError):
        writer.close()


async def main(port: int) -> None:
    server = await asyncio.start_server(serve, "::", port, backlog=1024)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


asyncio.run(main(int(sys.argv[1])))
