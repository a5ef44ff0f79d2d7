"""`python -m flows.serve_model`: draws images with the champion, whoever that is now, on this machine.

    GET /                                   a page to draw samples with
    GET /sample.png?n=16&seed=3&class=7     a grid of images; /sample.json: their pixels
    GET /health                             the version that is served, its digest, and what keeps a newer one away

The alias is asked every few seconds. Whatever is wrong with a request is one line of text with a status of 4xx.
"""

import argparse
import io
import math
import os
import secrets
import sys
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from flows.registry.registry import CHAMPION, Registry
from flows.settings import Settings
from flows.tracking import Tracker
from flows.web.following import Following, Served
from genmodel.errors import ConfigError, user_errors
from genmodel.listening import listening
from genmodel.sampling.requests import find_class

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response

_PAGE = Path(__file__).with_suffix(".html")
_MOST, _VALUES = 64, 4_000_000  # images, and numbers in them, of one request
_SEEDS = 2**53 - 1  # the largest whole number that a browser knows
_AT_ONCE, _WAITING = 2, 64  # requests that are drawn, and that are open
_HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
}


def main(argv: list[str] | None = None) -> int:
    options = _parser().parse_args(argv)
    with user_errors():
        if not math.isfinite(options.every) or options.every <= 0:
            raise ConfigError(f"--every {options.every} must be a number of seconds above 0")
        settings = Settings.read(os.environ, Path.cwd())
        settings.apply()
        following, stop = Following(Registry(Tracker(settings)), CHAMPION), threading.Event()
        with listening(options.port) as opened:
            import uvicorn

            following.look()
            watcher = threading.Thread(target=following.follow, args=(stop, options.every), daemon=True)
            watcher.start()
            port = opened.getsockname()[1]
            print(f"the champion draws at http://127.0.0.1:{port}    (Ctrl-C ends it)", flush=True)
            serving = uvicorn.Config(
                app(following, options.allow_host), log_level="warning", access_log=False, limit_concurrency=_WAITING
            )
            uvicorn.Server(serving).run(sockets=[opened])
            stop.set()
    return 0


def app(following: Following, hosts: Sequence[str] = ()) -> "FastAPI":
    """The server's routes, for requests to this machine or to `hosts`."""
    from fastapi import FastAPI, Query, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
    from pydantic import BaseModel, ConfigDict, Field
    from starlette.exceptions import HTTPException

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    drawing = threading.Semaphore(_AT_ONCE)

    class Asked(BaseModel):
        model_config = ConfigDict(extra="forbid")
        n: int = Field(16, ge=1, le=_MOST)
        seed: int = Field(0, ge=0, le=_SEEDS)
        label: str | None = Field(None, alias="class", max_length=100)

    def drawn(asked: Asked) -> tuple[Served, Any]:
        served = following.now
        if served is None:
            raise HTTPException(404, following.trouble)
        most = max(1, min(_MOST, _VALUES // served.values))
        if asked.n > most:
            raise HTTPException(400, f"n is 1 to {most} for images of this size, not {asked.n}")
        label = asked.label or None  # a form sends an empty field
        if label is not None:
            try:
                find_class(served.classes, label)
            except ValueError as error:
                raise HTTPException(400, f"class: {error}") from error
        with drawing:
            return served, served.draw(asked.n, asked.seed, label)

    @server.get("/sample.png")
    def picture(asked: Annotated[Asked, Query()]) -> Response:
        import torch

        from genmodel.showing.grids import grid, zoom_of

        served, images = drawn(asked)
        file, tensor = io.BytesIO(), torch.from_numpy(images)
        grid(tensor, zoom=zoom_of(tensor)).save(file, format="PNG")
        return Response(file.getvalue(), media_type="image/png", headers={"X-Model-Version": served.version})

    @server.get("/sample.json")
    def numbers(asked: Annotated[Asked, Query()]) -> JSONResponse:
        served, images = drawn(asked)
        told = {"version": served.version, "seed": asked.seed, "class": asked.label or None}
        return JSONResponse({**told, "shape": list(images.shape), "images": images.tolist()})

    @server.get("/health")
    def health() -> JSONResponse:
        served = following.now
        if served is None:
            return JSONResponse({"status": "nothing to serve", "trouble": following.trouble}, status_code=503)
        told = {name: getattr(served, name) for name in ("version", "name", "digest", "since", "classes")}
        state = "not up to date" if following.trouble else "ok"
        return JSONResponse({"status": state, **told, "trouble": following.trouble})

    @server.get("/")
    def page() -> HTMLResponse:
        nonce = secrets.token_urlsafe(16)
        only = f"default-src 'none'; img-src blob:; connect-src 'self'; style-src 'nonce-{nonce}'; "
        policy = f"{only}script-src 'nonce-{nonce}'; form-action 'self'; base-uri 'none'"
        return HTMLResponse(_PAGE.read_text().replace("NONCE", nonce), headers={"Content-Security-Policy": policy})

    @server.exception_handler(RequestValidationError)
    async def wrong(_: Request, error: RequestValidationError) -> Response:
        found = error.errors()[0]
        return PlainTextResponse(f"{'.'.join(map(str, found['loc'][1:]))}: {found['msg']}\n", status_code=400)

    @server.exception_handler(HTTPException)
    async def refused(_: Request, error: HTTPException) -> Response:
        known = {"Not Found": "there are /, /sample.png, /sample.json and /health"}
        known["Method Not Allowed"] = "this server only answers GET"
        return PlainTextResponse(f"{known.get(error.detail, error.detail)}\n", status_code=error.status_code)

    @server.exception_handler(Exception)
    async def failed(_: Request, error: Exception) -> Response:
        return PlainTextResponse(f"{' '.join(str(error).split())}\n", status_code=500)

    server.middleware("http")(_guard({"127.0.0.1", "localhost", *hosts}))
    return server


def _guard(hosts: set[str]) -> "Callable[[Request, Callable[[Request], Awaitable[Response]]], Awaitable[Response]]":
    """Refuse requests under other names, which another site may have given this address, and those of other sites."""

    async def guard(request: "Request", go_on: "Callable[[Request], Awaitable[Response]]") -> "Response":
        from fastapi.responses import PlainTextResponse

        host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
        if host not in hosts:
            told = f"the host {host[:100]!r} is not served here: start the server with --allow-host NAME\n"
            answer: Response = PlainTextResponse(told, status_code=403)
        elif request.headers.get("sec-fetch-site") == "cross-site" and request.url.path != "/":
            answer = PlainTextResponse("requests from other sites are refused\n", status_code=403)
        else:
            answer = await go_on(request)
        answer.headers.update(_HEADERS)
        return answer

    return guard


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m flows.serve_model", description="Draw images with the champion, over HTTP on this machine."
    )
    parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1 (default: %(default)s)")
    parser.add_argument(
        "--every", type=float, default=5.0, metavar="SECONDS", help="between looks at the alias (default: %(default)s)"
    )
    parser.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name that a proxy passes on; repeatable"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
