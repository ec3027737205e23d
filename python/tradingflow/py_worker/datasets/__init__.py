"""Tables of rows that users keep: what dataset nodes read and write, and the routes to look at them."""
