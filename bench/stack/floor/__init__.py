"""The floor: what the hops alone cost.

Three processes with the hops, the messages and the settings of the real ones, and handlers that do nothing but the next
hop: every message was built before the first call. ``messages`` builds them, ``__main__`` serves.
"""
