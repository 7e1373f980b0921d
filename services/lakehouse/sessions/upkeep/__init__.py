"""What keeps a session log small and sound: compaction to Parquet, and verification."""
