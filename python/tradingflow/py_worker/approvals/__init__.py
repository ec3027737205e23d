"""Questions flows put to their owners: asked by a node, answered over REST, or by the time-out."""
