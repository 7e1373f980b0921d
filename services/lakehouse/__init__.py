"""What the three services and their callers share.

The client half (``trace_context``, ``errors``, ``clients`` and the stubs in ``iterate``, ``chatd`` and
``validated``) needs grpcio, protobuf and googleapis-common-protos alone. The server half (``sessions``,
``tracing``, ``server``, ``cli``) comes with the extra ``server``. A test holds that line.
"""
