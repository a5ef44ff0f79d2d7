"""Two processes of one training, as torchrun starts them."""

import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
_PATH = f"{TESTS.parent}{os.pathsep}{TESTS}"  # genmodel, and the toys


def environment(**more: str) -> dict[str, str]:
    return os.environ | {"PYTHONPATH": _PATH, "GLOO_SOCKET_IFNAME": "lo", "OMP_NUM_THREADS": "1"} | more


def processes(*arguments: str) -> list[subprocess.Popen[str]]:
    place = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    command = [sys.executable, *arguments]
    return [
        subprocess.Popen(
            command, env=environment(**place, RANK=rank, LOCAL_RANK=rank), stderr=subprocess.PIPE, text=True
        )
        for rank in ("0", "1")
    ]


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
