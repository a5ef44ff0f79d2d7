"""A port on this machine alone."""

import socket

from genmodel.errors import ConfigError


def listening(port: int) -> socket.socket:
    """A socket on 127.0.0.1; ConfigError if the port is taken."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind(("127.0.0.1", port))
        listening.listen(128)
    except (OSError, OverflowError) as error:
        listening.close()
        raise ConfigError(f"cannot listen at 127.0.0.1:{port} ({error}): choose another one with --port") from error
    return listening
