"""For all tests: servers in this process run as the services do. grpc reads the switches when it is first imported."""

from lakehouse.server.grpc_switches import set_grpc_switches

set_grpc_switches()
