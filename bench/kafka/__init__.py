"""The benchmark of what goes over Kafka, on the broker that KAFKA_BOOTSTRAP_SERVERS names."""
