"""Rule tables between published checkpoints and this package's parameter names."""
