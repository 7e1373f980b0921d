"""The loop service: ask the model, validate, feed the findings back, at most so many times.

Reading order: protos/lakehouse/iterate/v1/iterate.proto (what it promises), ``__main__`` (what it needs), ``servicer``
(what comes in), ``session`` (one session from begin to row), ``loop`` (the attempts), then ``conversation``,
``answer`` and ``hops``. ``session_log`` and ``journal`` write the longitudinal log.
"""

# Before anything of the service: it sets what the C core reads when grpc is first imported.
import lakehouse.server  # noqa: F401
