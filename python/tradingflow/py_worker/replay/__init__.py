"""Running a cycle again, offline, from what its journal kept of the outside world."""
