"""Language models that answer questions: behind a server, or on this machine."""
