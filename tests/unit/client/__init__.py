"""Tests of the client and of queuectl, against a fake server over real gRPC."""
