"""The demonstration on tinyscenes: what it runs, what it measures, and the report it writes."""
