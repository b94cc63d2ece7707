"""The client of the Queue Manager."""
