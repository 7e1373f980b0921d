"""For all tests: servers in this process run as the services do, and who is started hears SIGHUP.

grpc reads its switches when it is first imported.
"""

import os
import signal

from lakehouse.server.grpc_switches import set_grpc_switches

set_grpc_switches()

# pytest-xdist sets it for its workers, and a table for a terminal so wide is another one.
os.environ.pop("COLUMNS", None)

# Under nohup it is ignored, which children would inherit; what has a handler here is as usual in them.
if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
    signal.signal(signal.SIGHUP, lambda *_: None)
