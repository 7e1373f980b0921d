"""The command ``lakehouse``: one file a command.

It imports no service: it calls running ones through ``lakehouse.clients`` and starts its own with ``python -m``.
"""
