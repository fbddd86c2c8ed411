"""The style of all plots, and how a figure becomes PNG and SVG.

Colors are those of Okabe and Ito (2008), which people of all kinds of color vision tell apart; no plot
says by color alone what it says. Text and axes have the color `INK`, which `to_svg` makes the color of
the page's text.
"""

import io
import re
import warnings
from pathlib import Path
from typing import Literal

import matplotlib.style
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from jaxhash.utils.files import whole_file

#: Blue, vermilion, green, orange, purple and sky blue of Okabe and Ito; black is `INK`, and yellow is
#: too light for a line on white.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#e69f00", "#cc79a7", "#56b4e9")

#: What tells lines apart: a color, a dash and a marker for each.
LINE_STYLES = tuple(
    {"color": color, "linestyle": dash, "marker": marker}
    for color, dash, marker in zip(
        COLORS, ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (8, 2))), "osd^vx", strict=True
    )
)

#: Color of text and axes; not pure black, which matplotlib's SVG leaves out.
INK = "#222222"

#: Width in inches of a figure as wide as a page, and of one column of three.
PAGE_WIDTH, COLUMN_WIDTH = 9.0, 3.0

_RC_PARAMS = {
    "axes.axisbelow": True,
    "axes.edgecolor": INK,
    "axes.facecolor": "none",
    "axes.formatter.use_mathtext": False,
    "axes.grid": True,
    "axes.labelcolor": INK,
    "axes.labelsize": 9,
    "axes.prop_cycle": cycler(color=COLORS),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titley": 1.0,  # else the place of a title is searched for at each drawing
    "figure.facecolor": "white",
    "figure.titlesize": 11,
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "grid.alpha": 0.15,
    "grid.color": INK,
    "grid.linewidth": 0.6,
    "image.composite_image": False,
    "legend.fontsize": 8,
    "legend.frameon": False,
    "lines.linewidth": 1.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "jaxhash",
    "text.color": INK,
    "text.parse_math": False,  # names of classes and files may hold dollar signs
    "xtick.color": INK,
    "xtick.labelsize": 8,
    "ytick.color": INK,
    "ytick.labelsize": 8,
}

#: Decorator of a function that draws: it does so in the style, whatever the settings of the user.
styled = matplotlib.style.context(["default", _RC_PARAMS])

_NO_METADATA = dict.fromkeys(("Creator", "Date", "Format", "Type"))


def set_log_scale(axes: Axes, which: Literal["x", "y"]) -> None:
    """Gives an axis a logarithmic scale with plain numbers, such as 0.01 and 1,000.

    Args:
        axes: with its data drawn, all of them positive.
        which: the axis.
    """
    axis = {"x": axes.xaxis, "y": axes.yaxis}[which]
    axes.set(**{f"{which}scale": "log"})
    low, high = axis.get_data_interval()
    steps = (1, 2, 5) if high < 30 * low else (1, 3) if high < 1000 * low else (1,)
    axis.set_major_locator(LogLocator(subs=steps))
    axis.set_major_formatter(lambda value, _: f"{value:,.0f}" if value >= 1 else f"{value:g}")
    axis.set_minor_formatter(NullFormatter())


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as PNG and as SVG; see `write_figure`.

    Args:
        figure: drawn in the style.
        path: where to, without a suffix.
    """
    for suffix in ("png", "svg"):
        write_figure(figure, path.with_name(f"{path.name}.{suffix}"))


def write_figure(figure: Figure, path: Path) -> None:
    """Writes a figure as the suffix says: .png, .svg or .pdf; the same figure gives the same bytes."""
    suffix = path.suffix.lower()
    with whole_file(path, "wb") as file:
        if suffix == ".svg":
            file.write(_render_svg(figure).encode())
        else:
            metadata = {"Software": None} if suffix == ".png" else {"CreationDate": None}
            _render(figure, file, format=suffix[1:], dpi=120, metadata=metadata)


def to_svg(figure: Figure) -> str:
    """Returns a figure as an SVG element for HTML; see `inline_svg`."""
    return inline_svg(_render_svg(figure))


def inline_svg(svg: str) -> str:
    """Returns an SVG file of `save_figure` as an element for HTML.

    It has no background, and its text and axes have the color of the text around it. It has no ids but
    those that it refers to, which stand for equal things wherever they are equal, so a page may hold many.

    Args:
        svg: content of the file.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'<g id="patch_1">.*?</g>\s*', "", svg, count=1, flags=re.DOTALL)  # background
    svg = re.sub(r'(?<=<g) id="[^"]*"| id="image[^"]*"', "", svg)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href")
    svg = svg.replace(COLORS[0], f"var(--blue, {COLORS[0]})")  # lighter on a dark page
    return svg.replace(INK, "currentColor")


def _render_svg(figure: Figure) -> str:
    """Returns a figure as SVG with paths to 1/100 of a point, which is half as long as to 1/10^6."""
    content = io.BytesIO()
    _render(figure, content, format="svg", metadata=_NO_METADATA)
    return re.sub(
        r' d="[^"]*"',
        lambda path: re.sub(r"(\.\d\d)\d+", r"\1", path[0]),
        content.getvalue().decode(),
    )


@styled
def _render(figure: Figure, file: io.IOBase, **options) -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")  # drawn as a box
        figure.savefig(file, **options)
