"""HTML elements that escape what they are given: text becomes markup here and nowhere else.

What a report shows was chosen by whoever sent requests and answered them, so it is hostile until it is escaped.
"""

from __future__ import annotations

import html
from typing import Final

from strangler_proxy.report_words import printable

LONGEST: Final = 2_000
_VOID: Final = frozenset({"meta", "br", "input", "link", "line", "rect", "circle", "path"})


class Html(str):
    """Markup that is safe already."""

    __slots__ = ()


def tag(name: str, /, *children: object, **attributes: object) -> Html:
    """An element. Children that are not Html are escaped; so are attributes. `class_` is `class`, `aria_x` `aria-x`.

    An attribute of None or False is left out, one of True stands alone.

    >>> tag("p", "1 < 2", tag("b", "x"), class_="a", hidden=True)
    '<p class="a" hidden>1 &lt; 2<b>x</b></p>'
    """
    said = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in _VOID and not children:
        return Html(f"<{name}{said}>" if name not in _DRAWN else f"<{name}{said}/>")
    return Html(f"<{name}{said}>{join(*children)}</{name}>")


def join(*children: object) -> Html:
    """Children one after the other, escaped where they are not Html; None is nothing."""
    return Html("".join(each if isinstance(each, Html) else text(each) for each in children if each is not None))


def text(value: object, longest: int = LONGEST) -> Html:
    r"""Text of others as markup: escaped, with controls and invisible characters written out.

    >>> text("<b>\x00"), text("\u202e")
    ('&lt;b&gt;\\x00', '\\u202e')
    """
    return Html(html.escape(printable(value, longest), quote=True))


_DRAWN: Final = frozenset({"line", "rect", "circle", "path"})


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(value)}"'
