"""Images as HTML: the one that a model drew, those nearest to it, and the frames of a walk."""

import base64
import html
import io
from collections.abc import Sequence

from torch import Tensor

from genmodel.exploring.nearest import Near
from genmodel.showing.grids import grid


def shown(
    image: Tensor, caption: str, near: Sequence[Near], note: str, way: Sequence[Tensor] = (), here: int = -1
) -> str:
    """An image, uint8 [H, W, C], beside the training images nearest to it, and `note`, which says what they are.

    Below are the frames of the way that it lies on, number `here` marked.
    """
    tiles = "".join(_figure(each.image, f"{each.name} · {each.apart:.0f}".removeprefix(" · ")) for each in near)
    marks = [" class=here" if number == here else "" for number in range(len(way))]
    frames = "".join(_image(frame, f"frame {number}", marks[number]) for number, frame in enumerate(way))
    parts = [
        f"<section class=made><h3>The model draws</h3>{_figure(image, caption)}</section>",
        f"<section class=near><h3>Nearest training images</h3><div class=tiles>{tiles}</div></section>" if near else "",
        f"<div class=way>{frames}</div>" if way else "",
        f"<p class=note>{html.escape(note)}</p>",
    ]
    return f"<div class=shown>{''.join(parts)}</div>"


def _figure(image: Tensor, caption: str) -> str:
    return f"<figure>{_image(image, caption)}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _image(image: Tensor, called: str, more: str = "") -> str:
    file = io.BytesIO()
    grid(image[None], gap=0).save(file, format="PNG")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img src="data:image/png;base64,{data}" alt="{html.escape(called)}"{more}>'
