"""The table of all replicas: an Apache Iceberg table to which each log is published, and from which all are read.

Nothing here is imported before a command needs it: PyIceberg and pyarrow come with the extra ``lake`` and take a
second.
"""
