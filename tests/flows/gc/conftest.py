"""A project for nights in a row."""

import shutil
from pathlib import Path

import pytest

from flows.settings import Settings
from flows.tracking import Tracker
from flows.versioning import dvc as versioning
from tests.flows.gc.nights import DVC_YAML, Nights
from tests.flows.toy_project import Toy


@pytest.fixture(scope="session")
def prefect_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prefect's tables, empty, as its own models describe them: no server has to start for that."""
    from prefect.server.database.orm_models import Base
    from sqlalchemy import create_engine
    from sqlalchemy.schema import CreateTable

    path = tmp_path_factory.mktemp("prefect") / "prefect.db"
    engine = create_engine(f"sqlite:///{path}")
    with engine.begin() as connection:
        for table in Base.metadata.sorted_tables:
            connection.execute(CreateTable(table))
    engine.dispose()
    return path


@pytest.fixture
def nights(empty_project: Toy, empty_database: Path, prefect_database: Path, monkeypatch: pytest.MonkeyPatch) -> Nights:
    root = empty_project.root
    for name, text in {
        "dvc.yaml": DVC_YAML,
        "data/block.json": "{}",
        ".gitignore": "/data\n/models\n/runs\n/mlflow.db*\n/mlartifacts\n/.prefect\n/remote\n",
    }.items():
        empty_project.write(name, text)
    monkeypatch.setenv("SHELL", "/bin/sh")
    for name in ("PREFECT_HOME", "PREFECT_API_DATABASE_CONNECTION_URL"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings.read({}, root)
    for name, value in settings.environment.items():
        monkeypatch.setenv(name, value)
    shutil.copy(empty_database, root / "mlflow.db")
    (root / ".prefect").mkdir()
    shutil.copy(prefect_database, root / ".prefect/prefect.db")
    monkeypatch.chdir(root)
    versioning.add(root, {"source": "digits", "sizes": [16]})
    return Nights(settings, Tracker(settings))
