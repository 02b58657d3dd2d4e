"""Which models every worker should have: pure. A worker that starts gets just these, so that a
crash brings back exactly what was switched to last."""

from collections.abc import Iterable, Mapping

Models = tuple[tuple[str, str], ...]
"""The name and the folder of each."""


class Desired:
    """`folders` has each model's folder by its name; None: all that are in the repository,
    whatever they are.

    `counted` are the models without which the daemon is not ready; None: all.
    """

    def __init__(self, folders: Mapping[str, str] | None = None) -> None:
        self._folders = dict(folders) if folders is not None else None
        self._counted = set(folders) if folders is not None else None

    @property
    def counted(self) -> frozenset[str] | None:
        """The models that readiness counts."""
        return None if self._counted is None else frozenset(self._counted)

    def folder(self, model: str) -> str | None:
        """Where a model is served from; None if it is not."""
        return (self._folders or {}).get(model)

    def names(self) -> list[str]:
        """The models that should serve, in order."""
        return sorted(self._folders or ())

    def switched(self, model: str, folder: str | None) -> None:
        """Workers were told to serve a model from a folder, or (None) no more."""
        assert self._folders is not None  # changes come only where the models are known
        if folder is None:
            self._folders.pop(model, None)
        else:
            self._folders[model] = folder

    def count(self, *models: str) -> None:
        """The daemon is not ready without these from now on."""
        assert self._counted is not None  # as above
        self._counted.update(models)

    def discount(self, model: str) -> None:
        """The daemon is ready without it from now on."""
        assert self._counted is not None  # as above
        self._counted.discard(model)

    def models(self, without: Iterable[str], repository: Mapping[str, str]) -> Models | None:
        """What a worker loads when it starts. `repository` are the folders that are there; they
        count where the models are not known one by one and some are left out."""
        left_out = set(without)
        if self._folders is None and not left_out:
            return None
        folders = repository if self._folders is None else self._folders
        return tuple(
            (name, folder) for name, folder in sorted(folders.items()) if name not in left_out
        )
