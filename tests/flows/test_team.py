"""A team's servers let the team in and nobody else; two clones share them, and all is there again after a restart."""

import base64
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.flows.clones import Clone, copy_project, git
from tests.flows.servers import ADMIN, AUTH, AWS, PASSWORDS, TEAM, Servers

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1500),
    pytest.mark.skipif(shutil.which("initdb") is None, reason="needs PostgreSQL: apt-get install postgresql"),
]
RUNS = "/api/2.0/mlflow/experiments/search"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    team = Servers(tmp_path_factory.mktemp("team") / "servers")
    try:
        team.start()
        for name, password in PASSWORDS.items():
            user = {"username": name, "password": password}
            assert asked(team, "mlflow", "/api/2.0/mlflow/users/create", f"admin:{ADMIN}", user)[0] == 200
        make_buckets(team)
        yield team
    finally:
        team.close()


def make_buckets(team: Servers) -> None:
    import boto3

    keys = dict(zip(("aws_access_key_id", "aws_secret_access_key", "region_name"), AWS.values(), strict=True))
    s3 = boto3.resource("s3", endpoint_url=team.address("s3"), **keys)
    for name in ("artifacts", "dvc"):
        s3.create_bucket(Bucket=name)


def asked(team: Servers, server: str, path: str, who: str = "", body: object = None, **headers: str) -> tuple[int, Any]:
    """The status and the JSON of an answer; with a `body`, to a POST. `who`: USER:PASSWORD."""
    content = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(team.address(server) + path, content, {"Content-Type": "application/json"})
    for name, value in headers.items():
        request.add_header(name, value)
    if who:
        request.add_header("Authorization", f"Basic {base64.b64encode(who.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            text = answer.read()
            return answer.status, json.loads(text) if answer.headers.get_content_type() == "application/json" else None
    except urllib.error.HTTPError as error:
        return error.code, None


def test_without_credentials_nobody_gets_in(servers: Servers) -> None:
    search = {"max_results": 1}
    assert asked(servers, "mlflow", RUNS, body=search)[0] == 401
    assert asked(servers, "mlflow", RUNS, "ada:guessed", search)[0] == 401
    assert asked(servers, "mlflow", RUNS, f"ada:{PASSWORDS['ada']}", search)[0] == 200
    assert asked(servers, "prefect", "/api/admin/version")[0] == 401
    assert asked(servers, "prefect", "/api/admin/version", "team:guessed")[0] == 401
    assert asked(servers, "prefect", "/api/admin/version", AUTH)[0] == 200


def test_another_host_another_site_and_a_post_without_a_token_are_refused(servers: Servers) -> None:
    """What a page in a member's browser could try: DNS that points here, a form, a script of another origin."""
    search, member = {"max_results": 1}, f"ada:{PASSWORDS['ada']}"
    assert asked(servers, "mlflow", RUNS, member, search, Host="elsewhere.example")[0] == 403
    assert asked(servers, "mlflow", RUNS, member, search, Origin="http://elsewhere.example")[0] == 403
    assert asked(servers, "prefect", "/api/flow_runs/count", AUTH, {})[0] == 403, "no CSRF token"


def test_two_clones_share_the_servers_and_find_all_again_after_a_restart(
    servers: Servers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy_project(tmp_path / "origin", {"vae"})
    ada = cloned(tmp_path / "origin", tmp_path / "ada", servers)
    ada.run("dvc", "remote", "add", "--default", "team", "s3://dvc/genmodel")
    ada.run("dvc", "remote", "modify", "team", "endpointurl", servers.address("s3"))
    ada.run("python", "-m", "flows.retrain")
    ada.run("dvc", "push", "--quiet")
    git("-C", str(ada.root), "add", "--all")
    git("-C", str(ada.root), "commit", "--quiet", "--message", "a first model")

    servers.stop()
    servers.start()
    bob = cloned(ada.root, tmp_path / "bob", servers)
    bob.run("dvc", "pull", "--quiet")
    for name, value in bob.servers.items():
        monkeypatch.setenv(name, value)
    (first,) = versions(bob)
    assert first.tags["genmodel.weights"] == weights_of(bob) and champion(bob) == first.version

    params = bob.root / "params.yaml"
    params.write_text(params.read_text().replace("learning_rate: 2.0e-2", "learning_rate: 1.0e-2"))
    told = bob.run("python", "-m", "flows.retrain")
    assert "train@vae" in told and not re.search(r"reference.*ran", told), "what Ada made is not made again"
    assert [version.tags["genmodel.weights"] for version in versions(bob)] == [
        weights_of(bob),
        first.tags["genmodel.weights"],
    ]
    assert flow_runs(servers) == 2, "Ada's, from before the restart, and Bob's"
    written = told + "".join(path.read_text() for path in (bob.root / "runs").rglob("*.json"))
    assert not any(secret in written for secret in (PASSWORDS["bob"], AUTH.partition(":")[2], "testing"))


def versions(clone: Clone) -> list[Any]:
    """Of the registered model, the newest first."""
    return list(clone.client().search_model_versions("name = 'genmodel'", order_by=["version_number DESC"]))


def champion(clone: Clone) -> str:
    return str(clone.client().get_model_version_by_alias("genmodel", "champion").version)


def weights_of(clone: Clone) -> str:
    return str(json.loads((clone.root / "models/vae/config.json").read_text())["weights"])


def flow_runs(team: Servers) -> int:
    """How many runs of flows Prefect's server knows of."""
    _, told = asked(team, "prefect", "/api/csrf-token?client=test", AUTH)
    token = {"Prefect-Csrf-Token": told["token"], "Prefect-Csrf-Client": "test"}
    status, count = asked(team, "prefect", "/api/flow_runs/count", AUTH, {}, **token)
    assert status == 200 and isinstance(count, int)
    return count


def cloned(origin: Path, to: Path, servers: Servers) -> Clone:
    git("clone", "--quiet", str(origin), str(to))
    return Clone(to, servers=servers.of_a_client(to.name))


def test_compose_starts_them_with_the_same_settings() -> None:
    """The file for those who have Docker."""
    services = yaml.safe_load((TEAM / "compose.yaml").read_text())["services"]
    assert all(services[name]["env_file"] == "servers.env" for name in ("prefect", "mlflow"))
