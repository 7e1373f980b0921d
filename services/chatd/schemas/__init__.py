"""What becomes of a caller's JSON Schema on its way to an endpoint.

`dialects` is the table of what each endpoint bears; `translation` says a schema in a dialect, `sizes` holds it against
the dialect's limits, and `put_format` chooses what one target is sent: the restricted schema, the plain one, or none.
"""
