"""`python -m queue_manager.client.cli`, for where `queuectl` itself is not on the PATH."""

from queue_manager.client.cli import main

if __name__ == "__main__":
    main()
