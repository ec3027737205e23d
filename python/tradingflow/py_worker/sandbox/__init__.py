"""Where user code runs: an interpreter without a way out, inside an operating system wall."""
