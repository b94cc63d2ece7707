"""Kafka: commands to workers, telemetry from them, events for everybody else."""
