"""RabbitMQ: topology, messages, publishing with confirms, consuming with acks. The only importer of aio_pika."""
