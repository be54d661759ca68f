"""Several results side by side: tables beside the paper's, and galleries."""
