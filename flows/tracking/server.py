"""MLflow's UI behind a login: other users of the machine see nothing, and nobody writes files through it."""

import hmac
import os
import re
import secrets
import socket
import warnings
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from flows.settings import Settings

_READING = {"GET", "HEAD", "OPTIONS"}
_CLOSED = re.compile(r"/(mlflow-artifacts|upload-artifact|assistant|gateway|jobs?|promptlab)|presigned|multipart", re.I)
_FRONT = b"open the whole link that `make ui` printed: it works once; for another one start `make ui` again\n"
# Into the pages with what a browser would be asked there: they are for training, and the Assistant, which opens by
# itself over a third of the first screen and for which there is no server here, stays closed.
_ENTER = b"""<!doctype html><title>MLflow</title><script>
localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
location.replace(location.pathname + location.hash);
</script>
"""


class Gate:
    """An ASGI app in front of MLflow's: without the cookie that a one-time link gives, every answer is 401.

    MLflow's server writes artifacts, which hold the code of models, for whoever asks. Here files come from trainings
    only: a request that would write one, or run something on this machine, is refused, even the owner's.
    """

    def __init__(self, app, port: int) -> None:  # type: ignore[no-untyped-def]
        self._app = app
        self._origin = re.compile(rf"http://(127\.0\.0\.1|localhost):{port}")
        self._cookie = f"genmodel-{port}"
        # A host's cookies go to all its ports, to another user's server too: ours is limited to a secret path.
        self.root = f"/{secrets.token_urlsafe(16)}"
        self._secret = secrets.token_urlsafe(32)
        self.token: str | None = secrets.token_urlsafe(32)  # None once it was used

    async def __call__(self, scope, receive, send) -> None:  # type: ignore[no-untyped-def]
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return None
        if scope["type"] != "http":
            return None  # MLflow has no WebSockets
        headers = {name.decode("latin1"): value.decode("latin1") for name, value in scope["headers"]}
        if not scope["path"].startswith(f"{self.root}/"):
            return await _answer(send, 401, _FRONT)
        raw = (scope.get("raw_path") or scope["path"].encode()).removeprefix(self.root.encode())
        scope = {**scope, "path": scope["path"].removeprefix(self.root), "raw_path": raw}
        if not self._knows(headers.get("cookie", "")):
            return await self._log_in(scope, send)
        if scope["method"] not in _READING and _CLOSED.search(scope["path"]):
            return await _answer(send, 403, b"files are not written through this server\n")
        if "origin" in headers and not self._origin.fullmatch(headers["origin"]):
            return await _answer(send, 403, b"requests from other sites are refused\n")
        await self._app(scope, receive, send)
        return None

    def _knows(self, header: str) -> bool:
        try:
            found = SimpleCookie(header).get(self._cookie)
        except CookieError:
            return False
        return found is not None and hmac.compare_digest(found.value.encode(), self._secret.encode())

    async def _log_in(self, scope, send) -> None:  # type: ignore[no-untyped-def]
        given = parse_qs(scope["query_string"].decode("latin1")).get("token", [""])[0]
        if scope["method"] != "GET" or not self.token or not hmac.compare_digest(given.encode(), self.token.encode()):
            return await _answer(send, 401, _FRONT)
        self.token = None
        cookie = f"{self._cookie}={self._secret}; HttpOnly; SameSite=Strict; Path={self.root}/"
        await _answer(send, 200, _ENTER, "html", cookie)
        return None


async def _answer(send, status: int, text: bytes, kind: str = "plain", cookie: str = "") -> None:  # type: ignore[no-untyped-def]
    headers = [(b"content-type", f"text/{kind}".encode()), (b"cache-control", b"no-store")]
    headers += [(b"referrer-policy", b"no-referrer"), *([(b"set-cookie", cookie.encode())] if cookie else [])]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": text})


def serve(settings: Settings, listening: socket.socket, place: str) -> None:
    """Serve MLflow's UI on the socket until Ctrl-C; prints the link to `place`, the part after #/.

    In this process, so that no command line shows a database's password.
    """
    os.environ["_MLFLOW_SERVER_FILE_STORE"] = settings.tracking_uri  # what `mlflow server` sets; without artifacts
    os.environ.pop("_MLFLOW_SERVER_SERVE_ARTIFACTS", None)
    if settings.artifacts:
        os.environ["_MLFLOW_SERVER_ARTIFACT_ROOT"] = settings.artifacts.as_uri()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MLflow's about its own parts, which a user cannot change
        import uvicorn
        from mlflow.server.fastapi_app import app

    port = listening.getsockname()[1]
    gate = Gate(app, port)
    print(f"the runs, side by side: http://127.0.0.1:{port}{gate.root}/?token={gate.token}#/{place}", flush=True)
    print("The link works once, in your browser. Ctrl-C ends the server", flush=True)
    uvicorn.Server(uvicorn.Config(gate, log_level="warning", access_log=False)).run(sockets=[listening])
