"""HTTP/JSON in front of the Queue Manager: transcoding, live streams, OpenAPI with Swagger UI, health and a live page.

A process of its own without state (`queue-manager gateway`), which talks to the server by gRPC alone. Nothing here is
written for a method: what there is comes from the contract's descriptors.
"""
