"""The Python Worker: runs flows, nodes exchanging signals over RabbitMQ."""
