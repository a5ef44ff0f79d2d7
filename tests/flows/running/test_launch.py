import io
import logging

import pytest

from flows.running import launch


@pytest.mark.parametrize(
    ("logger", "level", "traceback"),
    [
        ("prefect.FlowRunCancellingObserver", logging.WARNING, False),
        ("prefect.engine", logging.ERROR, True),
        ("another.library", logging.WARNING, True),
    ],
)
def test_a_warning_of_prefect_is_one_line(logger: str, level: int, traceback: bool) -> None:
    """A server that is gone is told by each of Prefect's observers, with three chained tracebacks each."""
    told = io.StringIO()
    handler = logging.StreamHandler(told)
    logging.getLogger().addHandler(handler)
    try:
        launch.warn_in_one_line()
        launch.warn_in_one_line()
        assert len(handler.filters) == 1
        try:
            raise EOFError("stream ends")
        except EOFError:
            logging.getLogger(logger).log(level, "the connection was lost", exc_info=True)
    finally:
        logging.getLogger().removeHandler(handler)
    assert "the connection was lost" in told.getvalue()
    assert ("Traceback" in told.getvalue()) is traceback
