"""prefect.yaml on a Prefect server with a password, with a worker of a process work pool (docs/schedules.md)."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.arrivals import sources
from flows.versioning import dvc as versioning
from flows.versioning.origin import Origin
from genmodel.data.block import Block
from genmodel.sizes import Size
from tests.flows.toy_project import Toy, environment

ROOT = Path(__file__).parents[3]
PASSWORD = "me:a-password"
ONE_STAGE = "stages:\n  train:\n    cmd: echo trained >> ran.txt && echo model,fd_toy > ranking.csv\n    deps: [data]\n"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


class Team:
    """A project with images beside it, and the server that it is deployed on."""

    def __init__(self, toy: Toy, raw: Path, home: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.root, self.raw, self.home = toy.root, raw, home
        clean = {name: value for name, value in environment().items() if not name.startswith(("PREFECT_", "GENMODEL_"))}
        self.environ = {
            **clean, "PYTHONPATH": str(ROOT), "PWD": str(self.root), "PREFECT_HOME": str(home), "GENMODEL_QUIET": "0.1",
            "PREFECT_API_URL": f"http://127.0.0.1:{self.port}/api", "PREFECT_API_AUTH_STRING": PASSWORD,
        }  # fmt: skip

    @contextmanager
    def running(self, *words: str, **more: str) -> Iterator[None]:
        """`prefect WORDS` in the background, until the block ends."""
        with (self.home / f"{words[0]}.log").open("w") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "prefect", *words], cwd=self.root, env={**self.environ, **more},
                stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
            try:
                yield
            finally:
                os.killpg(process.pid, signal.SIGTERM)
                try:
                    process.wait(20)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)  # the server is a child of the command
                    process.wait()

    def prefect(self, *words: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *words],
            cwd=self.root, env=self.environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    @contextmanager
    def client(self) -> Iterator[Any]:
        from prefect.client.orchestration import get_client
        from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_URL, temporary_settings

        known = {PREFECT_API_URL: self.environ["PREFECT_API_URL"], PREFECT_API_AUTH_STRING: PASSWORD}
        with temporary_settings(known), get_client(sync_client=True) as client:
            yield client

    def wait_for(self, condition: Callable[[], Any], seconds: float = 200) -> Any:
        ends = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < ends, "\n".join(path.read_text() for path in self.home.glob("*.log"))
            time.sleep(1)
        return found

    def wait_until_completed(self, client: Any, run: Any) -> None:
        state = self.wait_for(lambda: (found := client.read_flow_run(run.id).state).is_final() and found)
        assert state.is_completed(), (state, self.told())

    def told(self) -> str:
        return (self.home / "worker.log").read_text()


@pytest.fixture(scope="module")
def team(tmp_path_factory: pytest.TempPathFactory, block: Block, empty_history: Path) -> Iterator[Team]:
    folder = tmp_path_factory.mktemp("team")
    raw = Path(shutil.copytree(block.path.parent / "raw", folder / "raw"))
    toy = Toy(folder / "project")
    for name, text in {
        ".dvc/config": "[core]\n    analytics = false\n    check_update = false\n",
        "params.yaml": "models: {}\n",
        "dvc.yaml": ONE_STAGE,
        ".gitignore": "/data\n",
        "prefect.yaml": (ROOT / "prefect.yaml").read_text(),
    }.items():
        toy.write(name, text)
    (toy.root / "flows").symlink_to(ROOT / "flows")
    subprocess.run(["git", "init", "--quiet", str(toy.root)], check=True)
    origin = Origin(source="../raw", sizes=(Size.of(8),))
    origin.make(toy.root, 1)
    versioning.add(toy.root, origin.as_dict())
    sources.keep(toy.root, sources.states(toy.root, origin.steps))
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_history, home)
    made = Team(toy, raw, home)
    with ExitStack() as stack:
        started = "server", "start", "--host", "127.0.0.1", "--port", str(made.port)
        stack.enter_context(made.running(*started, PREFECT_SERVER_API_AUTH_STRING=PASSWORD))

        def answers() -> bool:
            with socket.socket() as asked:
                return asked.connect_ex(("127.0.0.1", made.port)) == 0

        made.wait_for(answers)
        made.prefect("work-pool", "create", "--type", "process", "local")
        made.prefect("deploy", "--all")
        stack.enter_context(made.running("worker", "start", "--pool", "local"))
        yield made


def test_a_run_with_parameters_from_the_ui(team: Team) -> None:
    with team.client() as client:
        deployment = client.read_deployment_by_name("retrain/retrain")
        parameters = deployment.parameter_openapi_schema["properties"]
        assert set(parameters) == {"force", "renew_extractor", "look"}
        assert all(each["type"] == "boolean" and each["description"] for each in parameters.values())
        assert [(each.schedule.cron, each.schedule.timezone) for each in deployment.schedules] == [("0 3 * * *", "UTC")]
        run = client.create_flow_run_from_deployment(deployment.id, parameters={"force": True, "look": False})
        team.wait_until_completed(client, run)
    assert (team.root / "ran.txt").read_text() == "trained\n" and "looked at" not in team.told()


def test_new_images_start_one_retraining_by_an_event(team: Team) -> None:
    """Which starts no other one."""
    from prefect.client.schemas.filters import FlowRunFilter

    Image.new("RGB", (9, 9)).save(team.raw / "circle/new.png")
    with team.client() as client:
        retrain = client.read_deployment_by_name("retrain/retrain").id
        before = {run.id for run in client.read_flow_runs()}
        of_retrain = FlowRunFilter.model_validate({"deployment_id": {"any_": [retrain]}})

        def begun() -> list[Any]:
            runs = client.read_flow_runs(flow_run_filter=of_retrain)
            return [run for run in runs if run.id not in before and not run.auto_scheduled]

        watch = client.read_deployment_by_name("watch/watch").id
        team.wait_until_completed(client, client.create_flow_run_from_deployment(watch))
        (run,) = team.wait_for(begun)
        assert "61 files): changed since it was read" in team.told()
        team.wait_until_completed(client, run)
        assert (team.root / "ran.txt").read_text() == "trained\n" * 2
        assert len(begun()) == 1
