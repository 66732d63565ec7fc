"""The command line: thin layers of words over the library.

`app` holds the commands, `run` runs them and turns each mistake into one message on stderr.
"""

from separable.cli.main import app, run

__all__ = ["app", "run"]
