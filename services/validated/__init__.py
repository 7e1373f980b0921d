"""``validated``: the hard correctness gate. An artifact agrees with the ground truth or comes back with findings.

It is pure: no session, no memory between calls; the same artifact, spec and roster version give the same verdict.

Reading order: ``lakehouse/validated/v1/validated.proto`` (the contract), ``__main__`` (what is put together),
``servicer`` (proto to domain and back), ``kinds`` (one validator a file; ``kinds.fill`` first), ``datasets`` (the
``WorkerLookup`` that they ask, with a file and a PostgreSQL behind it). What stands below ``servicer`` imports no grpc.
"""
