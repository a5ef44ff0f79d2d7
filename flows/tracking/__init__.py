"""MLflow: the connection, the runs, and the package of a model. The only place that imports mlflow.

Each training is one run, found by the tag genmodel.fingerprint; its steps are images seen. Every error of MLflow
becomes a TrackingError of one line. The registry's rules are in flows/registry/registry.py.
"""

from flows.tracking.lease import Owner
from flows.tracking.making import made, making_tags, remove_half_made
from flows.tracking.packages import fetch, load, open_graph, save_package
from flows.tracking.runs import Sent, Status, Tracker
from flows.tracking.store import FIX, database_file, make_database
from flows.tracking.turn import Turn

__all__ = [
    "FIX",
    "Owner",
    "Sent",
    "Status",
    "Tracker",
    "Turn",
    "database_file",
    "fetch",
    "load",
    "made",
    "make_database",
    "making_tags",
    "open_graph",
    "remove_half_made",
    "save_package",
]
