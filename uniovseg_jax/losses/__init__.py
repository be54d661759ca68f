"""What each phase minimises."""
