"""What lies in the folder of a study, and what is stale."""
