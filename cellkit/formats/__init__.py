"""Other programs' files: one or more modules a program, named after it."""
