"""Passwords do not belong into messages: URLs and texts as they may be shown."""

from __future__ import annotations

import os
import re
from typing import Final
from urllib.parse import unquote

from sqlalchemy import URL

VARIABLES: Final = (
    "TRACKGEN_DATABASE_URL",
    "TRACKGEN_DAGSTER_POSTGRES_URL",
    "TRACKGEN_DAWARICH_URL",
    "TRACKGEN_BROKER_URL",
    "PGPASSWORD",
)
"""Variables of the environment that may hold a password."""

IN_ADDRESS: Final = re.compile(r"(:(?://)?[^\s:/@?]*):(\S*)@")
"""`//user:password@`, up to the last @: a password that should have been percent-encoded may hold some."""

AS_OPTION: Final = re.compile(
    r"(\w*(?:passw(?:or)?d|pwd|secret|token)\s*=\s*)('(?:\\.|[^'\\])*'|[^&\s;]*)", re.IGNORECASE
)
"""`password=...` in the query of a URL, or in the connection string of libpq."""

LEAST_LENGTH: Final = 4
"""A shorter password is part of too many words to be looked for in texts."""

HIDDEN: Final = "***"


def shown_url(url: str | URL) -> str:
    """Return a database's URL, or what somebody took for one, without its password.

    Examples
    --------
    >>> shown_url("postgresql://me:secret@host/tracks?sslmode=require")
    'postgresql://me:***@host/tracks?sslmode=require'
    >>> shown_url("postgresql://host/tracks?user=me&password=secret")
    'postgresql://host/tracks?user=me&password=***'
    >>> shown_url("host=there user=me password='a secret'")
    'host=there user=me password=***'
    """
    text = url.render_as_string(hide_password=False) if isinstance(url, URL) else url
    return AS_OPTION.sub(rf"\1{HIDDEN}", IN_ADDRESS.sub(rf"\1:{HIDDEN}@", text))


def redact(text: str) -> str:
    """Return a message without the passwords that the environment holds, wherever they stand in it."""
    for name in VARIABLES:
        value = os.environ.get(name, "")
        if name == "PGPASSWORD":
            found = [value]
        else:
            found = [match[2] for match in IN_ADDRESS.finditer(value)]
            found += [match[2].strip("'") for match in AS_OPTION.finditer(value)]
        for password in {*found, *map(unquote, found)}:
            if len(password) >= LEAST_LENGTH:
                text = text.replace(password, HIDDEN)
    return shown_url(text) if "://" in text or "=" in text else text
