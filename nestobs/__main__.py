"""`python -m nestobs`."""

from nestobs.cli import main

raise SystemExit(main())
