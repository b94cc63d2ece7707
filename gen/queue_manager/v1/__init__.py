"""The contract, generated from `protos/queue_manager/v1`; do not edit."""
