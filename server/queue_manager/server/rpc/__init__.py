"""The gRPC face: convert, call, convert. Nothing here decides anything."""
