import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Metric
from mlflow.exceptions import MlflowException

from flows.settings import Settings
from flows.tracking.store import FIX, explain

BEGUN = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
CUT = {
    "no answer": b"",
    "half a body": BEGUN + b'Content-Length: 500\r\n\r\n{"a":',
    "half a chunk": BEGUN + b'Transfer-Encoding: chunked\r\n\r\n50\r\n{"a"',
}


@pytest.fixture
def answering() -> Iterator[Callable[[bytes], str]]:
    """answering(bytes) -> the address of a server that dies after these bytes of each answer."""
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()

    def begin(answer: bytes) -> str:
        def serve() -> None:
            while True:
                try:
                    asking, _ = listener.accept()
                except OSError:
                    return  # the test is over
                with asking:
                    asking.recv(1 << 16)
                    asking.sendall(answer)

        threading.Thread(target=serve, daemon=True).start()
        return f"http://127.0.0.1:{listener.getsockname()[1]}"

    yield begin
    listener.close()


@pytest.mark.parametrize("answer", CUT.values(), ids=CUT)
def test_a_server_that_dies_in_its_answer_cannot_be_reached(
    answer: bytes, answering: Callable[[bytes], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = answering(answer)
    chosen = Settings.read({"MLFLOW_TRACKING_URI": uri}, tmp_path)
    for name, value in chosen.environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(MlflowException) as caught:
        MlflowClient(uri, uri).log_batch("a" * 32, [Metric("loss", 1.0, 1, 1)])
    assert explain(caught.value, chosen) == f"cannot reach the tracking server at {uri}: {FIX}"
