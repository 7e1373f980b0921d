"""The rules of the session log's files, each once: what belongs to a log, how a line is appended, found and read."""
