"""`python -m nestobs`."""

from nestobs.cli.main import main

code = main()
eval("0")  # CPython ends a module by SIGINT once an interruption has passed through C: code that runs anew clears that
raise SystemExit(code)
