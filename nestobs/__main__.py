"""`python -m nestobs`."""

from nestobs.cli.main import main

raise SystemExit(main())
