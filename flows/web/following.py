"""The model behind an alias, loaded and kept up to date: a promotion or a rollback changes what is drawn."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from flows import tracking
from flows.registry.packaging import PACKAGE, try_out
from flows.registry.registry import Registry, Version
from genmodel.errors import GenmodelError, ModelError
from genmodel.output.progress import say
from genmodel.sizes import CHANNELS


@dataclass(frozen=True, kw_only=True)
class Served:
    """A version whose package is in memory; nothing of it changes any more."""

    version: str
    name: str
    digest: str  # sha256 of its package
    since: str  # when it was loaded, UTC
    classes: Sequence[str]  # that can be asked for
    values: int  # numbers in an image
    model: Any

    def draw(self, n: int, seed: int, label: str | None) -> Any:
        """Images, uint8 [n, H, W, C]. ModelError if the model fails."""
        request = {"n": n, "seed": seed, **({} if label is None else {"class": label})}
        try:
            return self.model.predict(request)
        except Exception as error:  # torch and the shipped code raise errors of their own
            raise ModelError(f"version {self.version} failed to draw: {' '.join(str(error).split())[:300]}") from error


class Following:
    """What the alias names: `now`, or why there is nothing, or nothing newer: `trouble`.

    A request takes `now` once and keeps it: a version that is replaced meanwhile finishes what it has begun.
    """

    def __init__(self, registry: Registry, alias: str) -> None:
        self._registry, self._alias = registry, alias
        self.now: Served | None = None
        self.trouble = "it has not been looked at yet"

    def look(self) -> None:
        """Ask the registry once. What cannot be loaded changes nothing but `trouble`, and is tried again next time."""
        try:
            version = self._registry.version(self._alias)
            if version is None:
                self.now = None
                self._told(f"no version is {self._alias}: python -m flows.retrain makes one, or approve one that waits")
            elif self.now is None or self.now.version != version.number:
                self.now = self._loaded(version)
                say(f"serving version {version.number}, {self.now.name}")
                self._told("")
            else:
                self._told("")
        except GenmodelError as error:
            self._told(str(error))

    def follow(self, stop: threading.Event, every: float) -> None:
        """Look again `every` so many seconds until `stop`."""
        while not stop.wait(every):
            self.look()

    def _told(self, trouble: str) -> None:
        if trouble and trouble != self.trouble:
            say(f"warning: {trouble}")
        self.trouble = trouble

    def _loaded(self, version: Version) -> Served:
        """ModelError if its package is not what was registered: none of its code has run then."""
        called = f"version {version.number}"
        if PACKAGE not in version.tags:
            raise ModelError(f"{called} was registered before packages had digests: its code is not run; register anew")
        settings = self._registry.tracker.settings
        with self._registry.package(version) as folder:
            try_out(folder, called, settings)
            model = tracking.load(folder, settings)
        told = model.model_config or {}
        images: Any = model.predict({"n": 1})
        assert images.shape[-1] in CHANNELS, "it was tried out"
        return Served(
            version=version.number,
            name=version.tags.get("genmodel.name", "?"),
            digest=version.tags[PACKAGE],
            since=datetime.now(UTC).isoformat(timespec="seconds"),
            classes=[str(name) for name in told.get("classes", [])],
            values=int(images[0].size),
            model=model,
        )
