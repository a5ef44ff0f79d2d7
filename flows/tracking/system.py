"""Readings of the machine, as MLflow shows them."""

from flows.settings import Settings


class SystemReader:
    """Reads what MLflow's system metrics show: use of CPU, memory, disk, network and, where there is one, GPU."""

    def __init__(self, settings: Settings) -> None:
        from mlflow.system_metrics.system_metrics_monitor import SystemMetricsMonitor

        # never started: it would stop at the first failed call. Without a URI it opens a database in this folder.
        self._monitor = SystemMetricsMonitor(run_id="", tracking_uri=settings.tracking_uri)

    def read(self) -> dict[str, float]:
        self._monitor.collect_metrics()
        figures = self._monitor.aggregate_metrics()
        for part in self._monitor.monitors:
            part.clear_metrics()
        return {f"system/{name}": float(value) for name, value in figures.items()}
