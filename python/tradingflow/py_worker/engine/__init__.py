"""The pure engine: a flow's JSON becomes a frozen graph, a graph's cycle a state machine. No IO, no framework."""
