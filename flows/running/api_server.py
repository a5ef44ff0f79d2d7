"""Prefect's API on a port of its own, as a process that ends with the one that started it; started as a script.

It binds its port first of all, and prints it: so no other process can answer there, and none that was faster is sent
the project's secret. Arguments: the port (0: a free one) and, for a server without scheduler and
pages, `--ephemeral`. Settings and secret come in the environment. The first line that it prints is `port NUMBER`, the
last one before it ends with 2 `error: WHY`.
"""

import asyncio
import os
import socket
import sys

from flows.running.guard import follow
from flows.running.imports import leave, uncollected


def main(port: int, ephemeral: bool) -> int:
    follow(os.getppid())
    os.umask(0o077)  # the database, too, is for its owner only
    bound = socket.socket()
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # else a port could not be used again for a minute
    try:
        bound.bind(("127.0.0.1", port))
    except (OSError, OverflowError) as error:
        print(f"error: port {port} of this machine is taken ({error})", flush=True)
        return 2
    own = f"http://127.0.0.1:{bound.getsockname()[1]}"
    os.environ |= {
        "PREFECT_API_URL": f"{own}/api",
        "PREFECT_UI_API_URL": f"{own}/api",
        "PREFECT_SERVER_API_CORS_ALLOWED_ORIGINS": own,
        "PREFECT_UI_ENABLED": "0" if ephemeral else "1",
    }
    print(f"port {bound.getsockname()[1]}", flush=True)
    try:
        asyncio.run(_serve(bound, ephemeral))
    except Exception as error:  # noqa: BLE001  # whatever it is, the waiting flow needs it in one line
        print(f"error: {type(error).__name__}: {str(error).partition(chr(10))[0]}", flush=True)
        return 2
    return 0


async def _serve(bound: socket.socket, ephemeral: bool) -> None:
    with uncollected():
        import uvicorn
        from prefect.server.api.server import create_app

    app = create_app(ephemeral=ephemeral, final=True)
    lifespan = app.router.lifespan_context(app)  # entered here, to report its error in one line; uvicorn would log it
    async with lifespan:
        config = uvicorn.Config(app, log_level="error", lifespan="off", access_log=False)
        await uvicorn.Server(config).serve(sockets=[bound])


if __name__ == "__main__":
    leave(main(int(sys.argv[1]), "--ephemeral" in sys.argv))
