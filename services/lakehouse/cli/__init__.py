"""The command ``lakehouse``: one file a command.

It imports no service: it calls running ones through ``lakehouse.clients`` and starts its own with ``python -m``.
"""

import os

# The C core would write of every closed connection to the terminal. Read once, when grpc is first imported.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
