"""Tests with real processes: the server as a user starts it, its workers, and callers over gRPC."""
