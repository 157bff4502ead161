"""The only way to a vLLM in a pod: checks the key, relays /v1 and nothing else, takes weights over the network.

    python -m score_distill.serving.gateway --port 8000 --upstream http://127.0.0.1:8001 --model NAME --key-file F
        [--managed --weights DIR --base DIR --dtype bfloat16]

Every answer says in ``x-score-weights`` which weights it is of. While vLLM is away, or does not compute with the
weights that were loaded last, /v1 answers 503. SIGTERM: what is under way is finished, within 20 seconds.
"""

import argparse
import asyncio
import hmac
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from pathlib import Path

import aiohttp
from aiohttp import web
from aiohttp.typedefs import Handler

from score_distill.agent.completer import WEIGHTS_HEADER
from score_distill.errors import Infrastructure, ModelFailure
from score_distill.serving.meter import TAIL, Meter
from score_distill.serving.parcel import BadParcel
from score_distill.serving.probe import MEAN_DIFFERENCE
from score_distill.serving.shelf import Shelf
from score_distill.serving.upstream import Upstream

OPEN = ("/healthz", "/ready", "/metrics")
THERE = ("Authorization", "Accept", "Content-Length", "Content-Type")
BACK = ("Content-Encoding", "Content-Length", "Content-Type", "Retry-After")
GRACE_SECONDS = 20.0
RETRY_SECONDS = 10


class Gateway:
    def __init__(self, upstream: Upstream, key: str) -> None:
        self.upstream, self.meter = upstream, Meter()
        self._secret = f"Bearer {key}".encode()
        self._loads = asyncio.Lock()

    def application(self) -> web.Application:
        app = web.Application(middlewares=[self._guarded])
        app.on_response_prepare.append(self._labelled)
        app.cleanup_ctx.append(self._watching)
        app.router.add_get("/healthz", self.healthz)
        app.router.add_get("/ready", self.ready)
        app.router.add_get("/metrics", self.metrics)
        app.router.add_route("*", "/v1/{path:[A-Za-z0-9_-]+(?:/[A-Za-z0-9_-]+)*}", self.relay)
        if self.upstream.shelf is not None:
            app.router.add_post("/weights/{version}", self.weights)
            app.router.add_put("/weights/{version}", self.weights)
        return app

    async def healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="up\n")

    async def ready(self, _: web.Request) -> web.Response:
        if self.upstream.proven:
            return web.Response(text=f"{self.upstream.version}\n")
        return web.Response(status=503, text="vLLM is not proven to compute with the weights loaded last\n")

    async def metrics(self, _: web.Request) -> web.Response:
        return web.Response(text=self.meter.text(), content_type="text/plain")

    async def relay(self, request: web.Request) -> web.StreamResponse:
        route = request.match_info["path"]
        reply = await self._relayed(request, route)
        self.meter.answered(route, reply.status)
        return reply

    async def _relayed(self, request: web.Request, route: str) -> web.StreamResponse:
        if not self.upstream.proven:
            return _unavailable()
        url, reply = f"{self.upstream.root}/v1/{route}", None
        headers = {name: request.headers[name] for name in THERE if name in request.headers}
        body = request.content if request.can_read_body else None
        try:
            asked = self.upstream.relay.request(
                request.method, url, params=request.query, headers=headers, data=body, allow_redirects=False
            )
            async with asked as answer:
                if not await self.upstream.vouched():
                    return _unavailable()
                kept = {name: answer.headers[name] for name in BACK if name in answer.headers}
                reply = web.StreamResponse(status=answer.status, headers=kept)
                await reply.prepare(request)
                tail = b""
                async for chunk in answer.content.iter_any():
                    await reply.write(chunk)
                    tail = (tail + chunk)[-TAIL:]
                await reply.write_eof()
                self.meter.spent(route, tail)
                return reply
        except (aiohttp.ClientError, TimeoutError):
            await self.upstream.suspect()
            if reply is None:
                return _unavailable()
            if request.transport is not None:
                request.transport.abort()
            return reply

    async def weights(self, request: web.Request) -> web.Response:
        """PUT brings a version as a tar, POST names one that is here (404 when it is not); either is then loaded.

        One load after the other, and none is left half done because its caller went away.
        """
        return await asyncio.shield(self._in_turn(request))

    async def _in_turn(self, request: web.Request) -> web.Response:
        version, shelf = request.match_info["version"], self.upstream.shelf
        assert shelf is not None
        async with self._loads:
            try:
                if request.method == "PUT":
                    await shelf.receive(version, request.content.iter_any())
            except (BadParcel, ModelFailure) as error:
                return web.Response(status=400, text=f"{error}\n")
            except OSError as error:
                return web.Response(status=507, text=f"{error}\n")
            if not shelf.has(version):
                return web.Response(status=404, text=f"{version} is not here\n")
            return await self._load(version)

    async def _load(self, version: str) -> web.Response:
        try:
            off, before = await self.upstream.load(version)
        except ModelFailure as error:
            return web.Response(status=422, text=str(error))
        except Infrastructure as error:
            return web.Response(status=503, text=str(error))
        return web.json_response({"version": version, "difference": off, "before": before})

    @web.middleware
    async def _guarded(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode("utf-8", "surrogateescape")
        if request.path not in OPEN and not hmac.compare_digest(given, self._secret):
            raise web.HTTPUnauthorized
        return await handler(request)

    async def _labelled(self, _: web.Request, response: web.StreamResponse) -> None:
        response.headers[WEIGHTS_HEADER] = self.upstream.version

    async def _watching(self, _: web.Application) -> AsyncIterator[None]:
        async with self.upstream:
            watch = asyncio.create_task(self.upstream.watch())
            yield
            watch.cancel()
            with suppress(asyncio.CancelledError):
                await watch


def _unavailable() -> web.Response:
    return web.Response(
        status=503,
        headers={"Retry-After": str(RETRY_SECONDS)},
        text="vLLM is away or not proven to compute with the weights loaded last\n",
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="score_distill.serving.gateway")
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--upstream", required=True, help="root of the vLLM, such as http://127.0.0.1:8001")
    parser.add_argument("--model", required=True, help="its served model name")
    parser.add_argument("--key-file", required=True, help="file with the key that callers bring and vLLM takes")
    parser.add_argument("--dtype", choices=MEAN_DIFFERENCE, default="bfloat16", help="format that vLLM computes in")
    parser.add_argument("--managed", action="store_true", help="take weights; with --weights and --base")
    parser.add_argument("--weights", type=Path, help="folder of its own for weights, seen by vLLM at the same path")
    parser.add_argument("--base", type=Path, help="folder of the model that vLLM starts with")
    given = parser.parse_args(arguments)
    if given.managed and not (given.weights and given.base):
        parser.error("--managed needs --weights and --base")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    shelf = Shelf(given.weights.absolute(), given.base.absolute()) if given.managed else None
    upstream = Upstream(given.upstream.rstrip("/"), given.model, given.key_file, given.dtype, shelf)
    gateway = Gateway(upstream, Path(given.key_file).read_text().strip())
    web.run_app(
        gateway.application(),
        host=given.host,
        port=given.port,
        shutdown_timeout=GRACE_SECONDS,
        handler_cancellation=True,  # what nobody waits for any more is not generated to its end
        access_log=None,
        print=lambda *_: None,
    )


if __name__ == "__main__":
    main()
