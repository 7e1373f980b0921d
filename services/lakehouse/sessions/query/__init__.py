"""Questions to a session log: a snapshot's DuckDB views, listings, figures and the report."""
