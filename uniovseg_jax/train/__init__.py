"""Training: one loop, three phases."""
