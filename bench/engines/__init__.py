"""Engines that others wrote, each asked the same of the published table (bench/lake_engines.py).

They run in an environment of their own (requirements/engines.txt, `make engines`), each in a process of its own, and
read the table as docs/engines.md says it to people. ``questions`` is what they are asked, ``answer`` how they answer,
``truth`` what the JSONL says.
"""
