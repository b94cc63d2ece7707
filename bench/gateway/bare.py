"""The yardstick: an aiohttp application with one route that makes one gRPC call and returns fixed bytes.

`python -m bench.gateway.bare SERVER`.
"""

from __future__ import annotations

import base64
import sys

import grpc
from aiohttp import web

from bench.control import obey, run
from bench.load import SERVICE
from queue_manager.v1 import service_pb2


async def serve() -> None:
    """Serve until standard input ends."""
    body = b""
    async with grpc.aio.insecure_channel(sys.argv[1]) as channel:
        call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(f"{SERVICE}/GetQueue")

        async def get(request: web.Request) -> web.Response:
            await call(service_pb2.GetQueueRequest(queue_id=request.match_info["queue_id"]).SerializeToString())
            return web.Response(body=body, content_type="application/json")

        async def answer(text: str) -> None:
            nonlocal body
            body = base64.b64decode(text)

        app = web.Application()
        app.router.add_get("/v1/queues/{queue_id}", get)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        await obey(runner.addresses[0][1], {"answer": answer})
        await runner.cleanup()


if __name__ == "__main__":
    run(serve)
