"""Text for the inside of XML elements."""

from __future__ import annotations

import re
from typing import Final
from xml.sax.saxutils import escape

NOT_XML: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot carry, not even escaped."""


def xml_text(text: str) -> str:
    """Return `text` for the inside of an XML element, without the characters that XML cannot carry."""
    return escape(NOT_XML.sub("", text), {"\r": "&#13;"})
