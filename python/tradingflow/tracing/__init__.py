"""Traces from request to node to trade, in OpenTelemetry's terms. Off unless an OTLP endpoint is set.

A cycle is one trace. Its id, and those of its spans, follow from the cycle itself, so nothing has to travel with
messages: whoever ends a node or a trade, on whatever worker and however often, tells of the same span.
"""
