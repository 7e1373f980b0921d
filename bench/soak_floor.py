"""One process of the floor that exposes what its allocators hold, as ours do: for ``bench.soak --floor``.

    python -m bench.soak_floor PORT iterate|chatd|validated [peer…]

The address is the first line of the output.
"""

from __future__ import annotations

import lakehouse.server  # noqa: F401  first: it sets what the C core reads when grpc is imported

import sys  # isort: skip

import uvloop
from bench.stack.floor.__main__ import main

from lakehouse.server.metrics import Metrics

if __name__ == "__main__":
    Metrics().serve("127.0.0.1", int(sys.argv[1]))
    uvloop.run(main(*sys.argv[2:]))
