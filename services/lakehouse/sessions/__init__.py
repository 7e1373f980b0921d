"""The longitudinal session log: the record, its encoding, and everything that reads it.

The only writer is ``iterate.session_log.logger``; nothing here opens the log for writing, except ``compaction``, which
turns closed segments into Parquet.
"""
