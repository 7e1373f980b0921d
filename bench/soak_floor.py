"""One process of the floor that exposes what its allocators hold, as ours do: for ``bench.soak --floor``.

    python -m bench.soak_floor PORT iterate|chatd|validated [peer…]

The address is the first line of the output.
"""

from __future__ import annotations

from lakehouse.server.grpc_switches import set_grpc_switches

if __name__ == "__main__":
    set_grpc_switches()  # before the imports below bring grpc

import sys

import uvloop
from bench.stack.floor.__main__ import main

from lakehouse.server.metrics import Metrics

if __name__ == "__main__":
    Metrics().serve("127.0.0.1", int(sys.argv[1]))
    uvloop.run(main(*sys.argv[2:]))
