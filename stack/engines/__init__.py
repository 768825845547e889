"""The real engines: Apache Kafka, PostgreSQL and Valkey, run from the wheels and jars of the lock files."""
