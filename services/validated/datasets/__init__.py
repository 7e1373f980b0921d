"""The roster: the ground truth that validators ask through ``WorkerLookup``.

``worker`` has the shapes. ``file`` is the backend for CSV, JSONL and Parquet: it has the files read in a process of its
own (``build``, with ``source``, ``batch`` and ``index_writer``), which packs them into one block, and maps that block
(``index``; ``near`` finds who looks like somebody). ``postgres`` is the backend for a table.
"""
