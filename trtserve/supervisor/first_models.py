"""Which models the daemon begins with, by the way that models come and go in it."""

import logging

from trtserve.config import Settings
from trtserve.errors import ConfigurationError, RepositoryError
from trtserve.model.layout import model_folders
from trtserve.supervisor.desired import Desired
from trtserve.supervisor.watch import Watch

_log = logging.getLogger(__name__)

_FOR_EXPLICIT = ("load_models", "allow_config_override", "allow_file_override")


def first_models(settings: Settings, watch: Watch | None) -> Desired:
    """What workers load when they start; `watch` looks at the repository in the mode poll.

    Raises ConfigurationError for settings that do not go together and models that are not there,
    RepositoryError where the repository can not be read.
    """
    mode = settings.model_control_mode
    for name in _FOR_EXPLICIT:
        if getattr(settings, name) and mode != "explicit":
            raise ConfigurationError(
                f"it means nothing with model_control_mode {mode}", where=name,
                cure="Use model_control_mode explicit, or leave it out",
            )
    try:
        if watch is not None:
            folders, changing = watch.begin()
            desired = Desired(folders)
            desired.count(*changing)
            if changing:
                _log.info("just changed, loaded once they have settled: %s", ", ".join(changing))
            return desired
        if mode == "explicit":
            return Desired(_asked(settings.load_models, model_folders(settings.repository)))
    except OSError as error:
        raise RepositoryError(
            f"the repository can not be read: {error.strerror}", where=settings.repository,
            cure="Check the path, and let this user read it",
        ) from error
    return Desired()


def _asked(names: str, there: dict[str, str]) -> dict[str, str]:
    """The folders of the models that `load_models` names."""
    asked = [name.strip() for name in names.split(",") if name.strip()]
    if "*" in asked:
        return there
    missing = sorted(set(asked) - there.keys())
    if missing:
        raise ConfigurationError(
            f"the repository has no model {', '.join(missing)}", where="load_models",
            cure=f"It has {', '.join(there) or 'none'}; * is all of them",
        )
    return {name: there[name] for name in asked}
