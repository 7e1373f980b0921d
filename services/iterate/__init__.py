"""The loop service: ask the model, validate, feed the findings back, at most so many times.

Reading order: protos/lakehouse/iterate/v1/iterate.proto (what it promises), ``__main__`` (what it needs), ``servicer``
(what comes in), ``session`` (one session from begin to row), ``brief`` and ``knowledge`` (what comes before the
attempts), ``loop`` (the attempts), then ``conversation``, ``answer`` and ``hops``.
``session_log`` and ``journal`` write the longitudinal log.
"""
