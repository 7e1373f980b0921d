"""The same id, the same answer: `recall` is what a session sees of it, `look` finds what an id's session left."""
