"""The name and version of the distribution, and the command that installs its optional packages.

The import name is ``separable``. The name ``separable`` on the Python Package Index belongs to another project,
so messages and documents must never tell a user to install that.
"""

from __future__ import annotations

__all__ = ["NAME", "VERSION", "install_command"]

NAME = "separable-convolution"
VERSION = "0.1.0"


def install_command(*extras: str) -> str:
    """Return the command that installs this distribution with optional packages.

    Parameters
    ----------
    *extras : str
        Names of extras, such as ``"torch"``. Without any, only the package itself is installed.

    Returns
    -------
    str
        Command, with double quotes (which every shell understands) if there are brackets.

    Examples
    --------
    >>> install_command("torch", "volumes")
    'pip install "separable-convolution[torch,volumes]"'
    >>> install_command()
    'pip install separable-convolution'
    """
    if not extras:
        return f"pip install {NAME}"
    return f'pip install "{NAME}[{",".join(extras)}]"'
