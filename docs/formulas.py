"""A hook of mkdocs: formulas become MathML while the site is built.

Browsers show MathML without a script and without fonts of their own, so the site needs no network.
pymdownx.arithmatex marks the formulas, latex2mathml translates them.
"""

import html
import re

from latex2mathml.converter import convert

FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.S)


def on_page_content(content, **_):
    """The HTML of a page with MathML in place of LaTeX."""
    return FORMULA.sub(_translated, content)


def _translated(found):
    tag, bracket, text = found.groups()
    display = "inline"
    if bracket == "[":
        display = "block"
    # latex2mathml does not know the name "aligned".
    text = html.unescape(text).replace("{aligned}", "{align*}")
    formula = convert(text, display=display)
    return f'<{tag} class="formula">{formula}</{tag}>'
