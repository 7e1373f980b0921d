"""Ground truth: tables that validators ask; the roster is one of them, asked through ``WorkerLookup``.

``worker`` has the shapes of the roster. ``dataset`` says what a table is made of, ``columns`` declares the roster's.

Files: ``file`` is the backend. ``loader`` has them read in a process of its own (``reader``), which opens and hashes
them (``parts``), finds our columns in theirs (``header``), reads rows strictly (``text_rows``, ``tables``), checks the
values (``checks``) and writes an index (``build``, ``index_build``) into a folder that is kept (``store``). ``index``
asks it; ``near`` finds who looks like somebody. Tables: ``postgres`` is the backend, ``postgres_table``
what one table looks like and ``postgres_shape`` what those of a roster do, ``postgres_statements`` its SQL. ``report``
and ``postgres_check`` are for ``lakehouse roster check``.

Declared datasets, and the roster as one: ``loaded_dataset`` holds them, ``dataset_build`` reads them into the index
that ``dataset_index`` asks. Of a table in PostgreSQL ``dataset_postgres`` reads all rows at one moment, in the same
process apart, and ``postgres_dataset`` sees whether it has changed.
"""
