#!/usr/bin/env python3
"""A network between two PostgreSQL servers that a test can break.

    pg_proxy.py PORT_FILE MODE_FILE TARGET_PORT

listens on a free port of 127.0.0.1, which it writes to PORT_FILE, and passes
everything to TARGET_PORT and back, as MODE_FILE says:

    pass     everything
    cut      the next answer to dtm.run_branch is lost, and the connection with
             it; then as pass
    silent   new connections are accepted, and nothing is ever said
    hold     what the server says is kept back

It ends with its standard input. Plain text only: sslmode=disable.
"""
import asyncio
import os
import sys


def mode():
    with open(sys.argv[2]) as file:
        return file.read().strip()


def set_mode(text):
    with open(sys.argv[2] + ".new", "w") as file:
        file.write(text)
    os.rename(sys.argv[2] + ".new", sys.argv[2])


async def forward(reader, writer, state, to_server):
    try:
        while data := await reader.read(65536):
            if to_server and mode() == "cut" and b"dtm.run_branch" in data:
                state["cut"] = True
            elif not to_server and state["cut"]:
                set_mode("pass")
                break
            while not to_server and mode() == "hold":
                await asyncio.sleep(0.02)
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        for each in state["writers"]:
            each.close()


async def serve(reader, writer):
    if mode() == "silent":
        try:
            while await reader.read(65536):
                pass
        except OSError:
            pass
        writer.close()
        return
    try:
        server_reader, server_writer = await asyncio.open_connection(
            "127.0.0.1", int(sys.argv[3]))
    except OSError:
        writer.close()
        return
    state = {"cut": False, "writers": (writer, server_writer)}
    await asyncio.gather(forward(reader, server_writer, state, True),
                         forward(server_reader, writer, state, False))


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(server.sockets[0].getsockname()[1]))
    os.rename(sys.argv[1] + ".new", sys.argv[1])
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.read)
    os._exit(0)


asyncio.run(main())
