"""The same job as it is done today, each in one process: instructor, pydantic-ai, and a loop over LiteLLM's proxy.

They run in an environment of their own (requirements/bench.txt) and are written as their documentation says: async
clients made once, connections reused, no debug logs. ``check`` is the gate that they share.
"""
