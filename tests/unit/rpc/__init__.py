"""The gRPC face: what messages become, and what they are made from."""
