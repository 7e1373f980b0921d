"""JSON from outside: one strict parser (`parser`), one canonical printer (`printer`), their limits (`rules`).

Everything that a caller, a model or a file of another producer sends is read here and nowhere else, so that no two
readings of the same bytes can disagree.
"""
