"""Installs what pip would, by uv where it can be had, in a fifth of the time: install.py -c constraints.txt torch.

The packages go into the environment of the Python that runs this. uv reads none of pip's settings: those that say where
packages lie are handed on. Where uv fails, pip does it all, and says what is wrong.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys

# pip's name of a setting, uv's variable, and what stands between two values there.
_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "constraint": ("UV_CONSTRAINT", " "),
    "cert": ("SSL_CERT_FILE", " "),
}


def settings_for_uv(listed: str) -> dict[str, str]:
    """Return uv's variables for what `pip config list` prints, lines of KEY='VALUE'; those of the environment win."""
    variables = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        key, _, value = line.partition("=")
        if (setting := key.rpartition(".")[2]) in _SETTINGS:
            name, between = _SETTINGS[setting]
            variables[name] = between.join(ast.literal_eval(value).split())
    return variables


def by_uv(arguments: list[str]) -> bool:
    """Install by uv, and return whether that went well."""
    pip = [sys.executable, "-m", "pip"]
    if subprocess.run([*pip, "install", "-q", "uv"]).returncode:
        return False
    listed = subprocess.run([*pip, "config", "list"], capture_output=True, text=True).stdout
    # pip takes the best of all indexes; uv, unless told so, the first that has the package.
    environment = {"UV_INDEX_STRATEGY": "unsafe-best-match", **settings_for_uv(listed), **os.environ}
    # Compiled once here, as pip does it, and not by every process that imports them, where Python may write no files.
    uv = [sys.executable, "-m", "uv", "pip", "install", "-q", "--compile-bytecode", "--python", sys.executable]
    return subprocess.run([*uv, *arguments], env=environment).returncode == 0


if __name__ == "__main__":
    if not by_uv(sys.argv[1:]):
        print("uv did not do it: pip does", file=sys.stderr)
        sys.exit(subprocess.run([sys.executable, "-m", "pip", "install", "-q", *sys.argv[1:]]).returncode)
