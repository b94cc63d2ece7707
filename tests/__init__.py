"""The Queue Manager's tests."""
