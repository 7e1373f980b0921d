"""The C core's switches. It reads them once, when grpc is first imported, which importing this module does not."""

from __future__ import annotations

import os


def set_grpc_switches() -> None:
    """Set, for this process and its children, what the environment does not set; call it before grpc is imported.

    For whoever starts a process (the services' ``__main__``, the command ``lakehouse``): a package that is imported
    into somebody else's process changes nothing there.
    """
    # The old poller instead of the event engine's threads: 0.70-0.77 of the CPU per call on grpcio 1.80.1 (bench/).
    os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
    # It would write of every closed connection.
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
