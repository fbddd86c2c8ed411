"""Makes Markdown of the docstrings: formulas as MathML, which browsers show without a script, and links.

Docstrings have formulas as ``:math:`...` `` and ``.. math:: ...``, and names of jaxhash in backticks. An
extension of griffe, which reads them for mkdocstrings.
"""

import re
from textwrap import dedent

import griffe
from latex2mathml.converter import convert

INLINE = re.compile(r":math:`([^`]+)`")
DISPLAY = re.compile(
    r"^([ \t]*)\.\. math::[ \t]*(.*(?:\n(?:\1[ \t]+.*|[ \t]*(?=\n\1[ \t]+\S)))*)", re.M
)
#: Functions that stand apart from their argument, unless it is in parentheses or they have an index.
FUNCTION = re.compile(
    r"(?<!<msub>)(?<!<msup>)(?<!<munder>)(?<!<msubsup>)(?<!<munderover>)"
    r"(<m[io]>(?:cos|exp|ln|log|max|min|sin|tanh)</m[io]>)(?!</|<mo[^>]*>(?:&#x00028;|\())"
)
SECTION = re.compile(r"^(Arguments|Returns|Raises):\n((?: {4}.*\n?|\n)+)", re.M)
NAME = re.compile(r"(?<![`\w])`(jaxhash(?:\.\w+)+)`(?!`)")


def to_markdown(text: str) -> str:
    """Returns the text of a docstring with MathML for its formulas and links for its names."""
    text = DISPLAY.sub(lambda m: f"{m[1]}<div>{_mathml(dedent(m[2]), 'block')}</div>\n", text)
    # Within a span, as Markdown makes a block of a formula that begins a line.
    text = INLINE.sub(lambda m: f"<span>{_mathml(m[1], 'inline')}</span>", text)
    text = NAME.sub(r'<autoref optional identifier="\1"><code>\1</code></autoref>', text)
    text = re.sub(r"^([ \t]*)Example:$", r"\1Examples:", text, flags=re.M)
    return re.sub(r"(?<=\w)::$", ":", text, flags=re.M)


def _mathml(latex: str, display: str) -> str:
    latex = " ".join(latex.split())
    if "\\\\" in latex:
        latex = rf"\begin{{aligned}}{latex}\end{{aligned}}"
    return FUNCTION.sub(r'\1<mspace width="0.17em"/>', convert(latex, display=display))


class Docstrings(griffe.Extension):
    """Converts each docstring that griffe has read."""

    def on_object(self, *, obj: griffe.Object, **_) -> None:
        """Replaces the text of the docstring."""
        if not obj.docstring:
            return
        text = obj.docstring.value
        if obj.is_module:  # its sections are of what all its functions share: lists, no parameters
            text = SECTION.sub(lambda m: f"**{m[1]}**\n\n{dedent(m[2])}", text)
        obj.docstring.value = to_markdown(text)
