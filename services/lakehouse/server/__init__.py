"""What every service process stands on: config, logs, interceptor, metrics, start and stop.

Reading order: ``bootstrap`` (the life of a process), ``config``, ``interceptor``, ``call``, ``log``, ``metrics``.
"""

import os

# The C core reads these once, when grpc is first imported, and every server module is imported through here first.
# The old poller instead of the event engine's threads: 0.70-0.77 of the CPU per call on grpcio 1.80.1 (bench/).
os.environ.setdefault("GRPC_EXPERIMENTS", "-event_engine_client,-event_engine_listener")
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
