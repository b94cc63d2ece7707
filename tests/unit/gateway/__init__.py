"""The gateway: HTTP and JSON in front of gRPC."""
