"""Which files are made, and what is in them."""

from tools.monitoring import device, fleet, grafana, per_model, rules_file
from tools.monitoring.model import Dashboard
from tools.monitoring.objectives import Objectives
from tools.monitoring.overview import overview

CHART = "helm/trtserve"


def dashboards(objectives: Objectives) -> tuple[Dashboard, ...]:
    """All of them, the overview first."""
    return (overview(objectives), per_model.DASHBOARD, device.DASHBOARD, fleet.DASHBOARD)


def files(objectives: Objectives) -> dict[str, str]:
    """The content of each file, by its path in the repository."""
    found = {
        f"{CHART}/dashboards/{dashboard.uid}.json": grafana.text(dashboard)
        for dashboard in dashboards(objectives)
    }
    return {**found, f"{CHART}/files/alerts.yaml": rules_file.text(objectives)}
