"""`python -m cellkit` is the command `cellkit`."""

from cellkit.cli import main

raise SystemExit(main())
