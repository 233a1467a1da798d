"""Labels on their way: what to draw next, what was answered, where a person stands."""
