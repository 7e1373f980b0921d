"""The session log's only writer: `logger` is what a session sees of it, `sweep` what a dead process is still owed."""
