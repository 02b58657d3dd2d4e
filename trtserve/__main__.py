"""`python -m trtserve` is the command `trtserve`."""

from trtserve.cli.main import main

main()
