"""What every service process stands on: config, logs, interceptor, metrics, start and stop.

Reading order: ``bootstrap`` (the life of a process), ``config``, ``interceptor``, ``call``, ``log``, ``metrics``.
"""
