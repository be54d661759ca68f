"""The rows of the tinyscenes experiment: many adapters, scored on the same proposals."""
