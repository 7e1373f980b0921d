"""The session log as web pages for one person at a time: read-only, server-rendered, without anything from outside.

The rest of the package is imported by `lakehouse sessions serve` alone; it needs the extra ``page``.
"""
