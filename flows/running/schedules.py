"""The schedules that a Prefect server holds for this project."""

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import DeploymentFilter


def of_project(project: str) -> dict[str, bool]:
    """Whether each deployment with the project's tag is paused, by its name: flow/deployment."""
    tagged = DeploymentFilter.model_validate({"tags": {"all_": [project]}})
    with get_client(sync_client=True) as client:
        found = client.read_deployments(deployment_filter=tagged)
        return {f"{client.read_flow(each.flow_id).name}/{each.name}": each.paused for each in found}
