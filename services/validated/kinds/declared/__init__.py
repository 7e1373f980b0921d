"""Kinds that are declared in TOML, over datasets: no code of their own."""
