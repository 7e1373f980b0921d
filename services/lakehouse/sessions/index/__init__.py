"""The index beside the log: where the rows of a session id stand, so that a repeated call is answered from its row.

One process writes it (``python -m lakehouse.sessions.index``: ``build``), anybody reads it (``search``, ``store``). It
holds nothing that the log does not hold: its folder may be deleted at any time, and is made again.
"""
