"""Callers: who they are (`authentication`), what they may (`policy`), how much (`budgets`).

Off unless `[<service>.callers]` names a file; nothing here is imported then. `access` is what the interceptor asks.
"""
