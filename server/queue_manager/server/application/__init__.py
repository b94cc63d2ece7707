"""Use cases and the controller, over the ports that `ports` defines."""
