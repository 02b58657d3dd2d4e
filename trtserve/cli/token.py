"""`trtserve token`: a new token for a caller of the access file."""

from typing import Annotated

import typer

from trtserve.cli.connection import Json
from trtserve.cli.output import print_json, print_line
from trtserve.errors import ConfigurationError
from trtserve.security.access import ANONYMOUS, SOCKET
from trtserve.security.access_file import NAME
from trtserve.security.tokens import hash_of, make_token


def token(
    name: Annotated[str, typer.Argument(help="The caller's name.", show_default=False)],
    json: Json = False,
) -> None:
    """Make a token for a caller, and its entry for the access file.

    The token is shown here and nowhere else: the access file has its hash only.
    """
    if not NAME.fullmatch(name) or name in (ANONYMOUS, SOCKET):
        raise ConfigurationError(
            f"'{name}' is no name for a caller with a token", where="NAME",
            cure="Use letters, digits, . _ @ and -, at most 64; not anonymous and not socket",
        )
    made = make_token()
    hashed = hash_of(made)
    if json:
        print_json({"name": name, "token": made, "hash": hashed})
        return
    print_line("The token, shown this once. Give it to the client, in TRTSERVE_TOKEN:")
    print_line()
    print_line(f"  {made}")
    print_line()
    print_line("For the access file, under callers (one more line of tokens for a caller that is "
               "there already):")
    print_line()
    print_line(f"  - name: {name}")
    print_line("    tokens:")
    print_line(f"      - {hashed}")
    print_line("    allow: [infer, read]")
