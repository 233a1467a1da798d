"""A study and others: bundles and exchange."""
