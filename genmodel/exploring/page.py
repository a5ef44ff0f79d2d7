"""The page: its controls, and what it shows for them. Gradio draws it; nothing of it comes from another machine."""

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from genmodel.errors import ConfigError
from genmodel.exploring.nearest import TrainingImages
from genmodel.exploring.pictures import shown
from genmodel.exploring.subject import STEP, Slider, Subject
from genmodel.listening import listening

if TYPE_CHECKING:
    from fastapi import FastAPI, Request, Response
    from torch import Tensor

_CSS = Path(__file__).with_name("page.css")
_NEAR = 6  # training images beside a sample
_PLACES, _FRAMES = 100, 11  # of a walk: steps of its slider, and images below it
_SEEDS = 2**53 - 1  # the largest whole number that a browser knows
_FEW = 16  # choices that are buttons; more are a list
_QUICK = {"trigger_mode": "always_last", "show_progress": "hidden", "api_visibility": "private"}
_ONLY_HERE = "default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; frame-ancestors 'none'"


class Views:
    """What the page shows: functions from the values of its controls to HTML and to other controls."""

    def __init__(self, subject: Subject, training: TrainingImages | None, note: str) -> None:
        self.subject, self.training, self.note = subject, training, note

    def fresh(self, seed: int, label: int | None = None) -> list[Any]:
        """A seed's image as it is, and the places of the sliders for it."""
        codes = self.subject.codes(seed, label)
        return [self._shown(codes, f"Seed {seed}"), *self.subject.places(codes)]

    def moved(self, seed: int, label: int | None, *places: float) -> str:
        """A seed's image with the codes that the sliders say."""
        codes, count = self.subject.moved(self.subject.codes(seed, label), places)
        return self._shown(codes, f"Seed {seed}, {count} of its codes changed" if count else f"Seed {seed}")

    def between(self, first: int, last: int, label: int | None, place: int) -> str:
        """The image `place` steps of _PLACES along the walk from one seed to the other, and some of the way."""
        way, each = self.subject.way((first, last), label, _PLACES + 1), _PLACES // (_FRAMES - 1)
        caption = f"{place}% of the way from seed {first} to seed {last}"
        return self._shown(way[[place]], caption, way[::each], round(place / each))

    def _shown(self, codes: "Tensor", caption: str, way: "Tensor | None" = None, here: int = -1) -> str:
        import torch

        image, *frames = self.subject.draw(codes if way is None else torch.cat([codes, way]))
        near = self.training.nearest(image, _NEAR) if self.training else []
        return shown(image, caption, near, self.note, frames, here)


def app(views: Views) -> "FastAPI":
    """The server of the page, for requests to this machine alone."""
    gradio = _gradio()
    from fastapi import FastAPI
    from fastapi.middleware.trustedhost import TrustedHostMiddleware

    server = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)

    @server.middleware("http")
    async def nothing_from_elsewhere(
        request: "Request", go_on: "Callable[[Request], Awaitable[Response]]"
    ) -> "Response":
        answer = await go_on(request)
        answer.headers["Content-Security-Policy"] = _ONLY_HERE
        return answer

    server.add_middleware(TrustedHostMiddleware, allowed_hosts=["127.0.0.1", "localhost"])
    served: FastAPI = gradio.mount_gradio_app(
        server,
        _page(gradio, views),
        path="",
        server_name="127.0.0.1",
        theme=gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        css=_CSS.read_text(),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        mcp_server=False,
        max_file_size=0,
    )
    return served


def serve(views: Views, port: int) -> None:
    """Serve the page on this machine until Ctrl-C. ConfigError without Gradio, or if the port is taken."""
    server = app(views)
    import uvicorn

    with listening(port) as opened:
        port = opened.getsockname()[1]
        print(f"{views.subject.name} can be explored at http://127.0.0.1:{port}    (Ctrl-C ends it)", flush=True)
        config = uvicorn.Config(server, log_level="warning", access_log=False, timeout_graceful_shutdown=1)
        uvicorn.Server(config).run(sockets=[opened])


def _gradio() -> Any:
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1"}  # before it is imported
    try:
        import gradio
    except ImportError as error:
        raise ConfigError(
            f'the page needs {error.name}: pip install -e ".[explore]" where genmodel was cloned'
        ) from error
    return gradio


def _page(gradio: Any, views: Views) -> Any:
    subject = views.subject
    with gradio.Blocks(title=f"{subject.name} · genmodel explore", analytics_enabled=False) as page:
        gradio.Markdown(f"# {subject.name}\n{subject.described}")
        with gradio.Tab("Codes" if subject.sliders else "Seeds"):
            _codes(gradio, views)
        if subject.walks:
            with gradio.Tab("Between two seeds"):
                _walk(gradio, views)
    return page


def _codes(gradio: Any, views: Views) -> None:
    first, *places = views.fresh(0, 0)
    with gradio.Row():
        with gradio.Column(scale=2, min_width=280):
            seed, label = _seed(gradio, "Seed", 0), _classes(gradio, views.subject)
            with gradio.Row():
                following = gradio.Button("Next seed", min_width=100)
                back = gradio.Button("Undo", min_width=100, visible=bool(places))
            sliders = [_slider(gradio, *each) for each in zip(views.subject.sliders, places, strict=True)]
        with gradio.Column(scale=3, min_width=280, elem_classes="picture"):
            picture = gradio.HTML(first)
    fresh = {"fn": _filled(gradio, views.fresh, 1), "inputs": [seed, label], "outputs": [picture, *sliders]}
    following.click(lambda now: min(int(now or 0) + 1, _SEEDS), seed, seed, **_QUICK).then(**fresh, **_QUICK)
    gradio.on([seed.input, back.click, *_chosen(label)], **fresh, **_QUICK)
    for slider in sliders:
        slider.input(_filled(gradio, views.moved, 1), [seed, label, *sliders], picture, **_QUICK)


def _walk(gradio: Any, views: Views) -> None:
    with gradio.Row():
        with gradio.Column(scale=2, min_width=280):
            ends = [_seed(gradio, "From seed", 0), _seed(gradio, "To seed", 1)]
            label = _classes(gradio, views.subject)
            place = gradio.Slider(0, _PLACES, _PLACES // 2, step=1, label="Percent of the way", buttons=[])
        with gradio.Column(scale=3, min_width=280, elem_classes="picture"):
            picture = gradio.HTML(views.between(0, 1, 0, _PLACES // 2))
    events = [each.input for each in (*ends, place)] + _chosen(label)
    gradio.on(events, _filled(gradio, views.between, 2), [*ends, label, place], picture, **_QUICK)


def _filled(gradio: Any, view: Callable[..., Any], seeds: int) -> Callable[..., Any]:
    """The view, which changes nothing while one of the seeds, its first values, is being typed."""
    return lambda *asked: gradio.skip() if None in asked[:seeds] else view(*asked)


def _seed(gradio: Any, name: str, value: int) -> Any:
    return gradio.Number(value, label=name, precision=0, minimum=0, maximum=_SEEDS)


def _classes(gradio: Any, subject: Subject) -> Any:
    """A choice among the classes, by number; None for a model that is not conditional."""
    if not subject.classes:
        return gradio.State(None)
    choice = gradio.Radio if len(subject.classes) <= _FEW else gradio.Dropdown
    return choice(subject.classes, value=subject.classes[0], type="index", label="Class")


def _chosen(label: Any) -> list[Any]:
    """The event of another class, where there are some."""
    return [label.input] if hasattr(label, "input") else []


def _slider(gradio: Any, slider: Slider, place: float) -> Any:
    if slider.categories:
        return gradio.Radio(list(range(slider.categories)), value=int(place), label=slider.name)
    return gradio.Slider(-slider.reach, slider.reach, place, step=STEP, label=slider.name, buttons=[])
