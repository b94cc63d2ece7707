"""The Queue Manager's server: see `app` for how it is put together."""
