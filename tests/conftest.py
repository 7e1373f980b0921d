"""For all tests: the C core keeps quiet about closed connections. It reads this once, when grpc is first imported."""

import os

os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
