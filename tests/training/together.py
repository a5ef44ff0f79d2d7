"""Two processes of one training, as torchrun starts them."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]
_PATH = f"{TESTS.parent}{os.pathsep}{TESTS}"  # genmodel, and the toys
_TRAIN = """
import json, os, sys
from genmodel.cli import main
from genmodel.models.families import FAMILIES
from toys import TOYS
FAMILIES.update(TOYS)
for port, words in json.loads(sys.argv[1]):
    os.environ["MASTER_PORT"] = port
    main(words)
"""


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


def train_by_two(*commands: list[str]) -> None:
    """`genmodel` commands, each by two processes: the same two for all, as most of their time is their start."""
    both = processes("-c", _TRAIN, json.dumps([(free_port(), words) for words in commands]))
    said = [process.communicate(timeout=400)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said


def free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])
