"""RepositoryModelLoad, RepositoryModelUnload and the models that are not loaded.

Calls are checked here and carried out by the supervisor. What a call brings is parsed before
anything is begun; files travel in a memfd, so that a large one is copied once.
"""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from google.protobuf import text_format

from trtserve.config import Settings
from trtserve.errors import (
    ConfigurationError,
    ControlFailed,
    InvalidRequest,
    NotServed,
    request_error,
)
from trtserve.ipc.message import ControlReply, ControlRequest
from trtserve.model.configuration_checks import check
from trtserve.model.configuration_file import Origin, from_json_text
from trtserve.model.layout import MODEL_NAME, model_folders, version_file
from trtserve.proto import grpc_service_pb2 as pb

MAX_CONFIGURATION_BYTES = 32 * 1024
MAX_FILES = 100
"""Together they fit one message between processes, names included."""

UNLOADED = "unloaded"
"""The reason that the index gives for a model which is there and not loaded."""

_FILE = "file:"
_UNLOAD_PARAMETERS = ("unload_dependents",)

Ask = Callable[[ControlRequest, int | None], Awaitable[ControlReply]]
"""Ask the supervisor. The descriptor, if any, stays the caller's."""


class ControlCalls:
    """The calls that change which models are loaded."""

    def __init__(self, settings: Settings, ask: Ask) -> None:
        self._settings = settings
        self._ask = ask

    async def load(
        self, request: pb.RepositoryModelLoadRequest
    ) -> pb.RepositoryModelLoadResponse:
        """Load a model, or load it again. Answers when every front end has switched to it.

        Raises NotServed, InvalidRequest, ModelNotFound, ControlFailed or Unavailable.
        """
        name = self._model(request)
        configuration, contents = "", {}
        for key in request.parameters:
            if key == "config":
                configuration = self._configuration(name, request.parameters[key])
            elif key.startswith(_FILE):
                contents[key.removeprefix(_FILE)] = self._file(key, request.parameters[key])
            else:
                raise InvalidRequest(
                    f"no parameter '{key[:64]}'; a load takes 'config' and 'file:VERSION/NAME'"
                )
        if len(contents) > MAX_FILES:
            raise InvalidRequest(f"{len(contents)} files came; a load takes up to {MAX_FILES}")
        if not contents:
            await self._carry_out(ControlRequest(0, name, True, configuration))
        else:
            fd, files = _in_memory(contents)
            try:
                await self._carry_out(ControlRequest(0, name, True, configuration, files), fd)
            finally:
                os.close(fd)
        return pb.RepositoryModelLoadResponse()

    async def unload(
        self, request: pb.RepositoryModelUnloadRequest
    ) -> pb.RepositoryModelUnloadResponse:
        """Unload a model. Answers when no front end gives it requests any more; those that it
        has are still answered. Raises as load() does."""
        name = self._model(request)
        for key in request.parameters:
            # Models do not depend on one another here, so there is nothing more to unload.
            if key not in _UNLOAD_PARAMETERS:
                raise InvalidRequest(
                    f"no parameter '{key[:64]}'; an unload takes {_UNLOAD_PARAMETERS[0]}"
                )
        await self._carry_out(ControlRequest(0, name, False))
        return pb.RepositoryModelUnloadResponse()

    async def unloaded(self, known: Mapping[str, Any]) -> list[str]:
        """The models of the repository beside those that are known; none where all are loaded at
        the start."""
        if self._settings.model_control_mode == "none":
            return []
        try:
            there = await asyncio.to_thread(model_folders, self._settings.repository)
        except OSError:
            return []
        return [name for name in there if name not in known and MODEL_NAME.fullmatch(name)]

    async def _carry_out(self, request: ControlRequest, fd: int | None = None) -> None:
        reply = await self._ask(request, fd)
        if reply.word:
            raise request_error(reply.word, reply.message)

    def _model(
        self, request: pb.RepositoryModelLoadRequest | pb.RepositoryModelUnloadRequest
    ) -> str:
        """The model that a call names, where such calls are taken."""
        mode = self._settings.model_control_mode
        if mode == "poll":
            raise NotServed(
                "this server loads and unloads models as its repository changes "
                "(model_control_mode poll): change the model's folder, or start the server with "
                "--model-control-mode explicit"
            )
        if mode != "explicit":
            raise NotServed(
                "this server loads models at its start only: start it with --model-control-mode "
                "explicit to load and unload them by calls"
            )
        if request.repository_name:
            raise InvalidRequest("this server has one repository: leave repository_name empty")
        name: str = request.model_name
        if not MODEL_NAME.fullmatch(name):
            raise InvalidRequest(
                f"'{name[:64]}' is no model name: letters, digits, '.', '_' and '-', the first a "
                "letter or a digit, 255 at most"
            )
        return name

    def _configuration(self, model: str, parameter: pb.ModelRepositoryParameter) -> str:
        """The configuration that a load brings, as the text of a config.pbtxt."""
        if not self._settings.allow_config_override:
            raise ControlFailed(
                "this server takes no configuration with a load: start it with "
                "--allow-config-override, or change the model's folder"
            )
        if parameter.WhichOneof("parameter_choice") != "string_param":
            raise InvalidRequest("parameter 'config' must be a string: JSON")
        try:
            message = from_json_text(parameter.string_param)
            check(message, Origin(), model)
        except ConfigurationError as error:
            cure = f". {error.cure}" if error.cure else ""
            raise InvalidRequest(f"config of model '{model}': {error.problem}{cure}") from error
        text: str = text_format.MessageToString(message)
        if len(text.encode()) > MAX_CONFIGURATION_BYTES:
            raise InvalidRequest(
                f"config of model '{model}' is larger than {MAX_CONFIGURATION_BYTES} bytes"
            )
        # An empty one counts too: everything is then derived from the engines.
        return text or "# all defaults\n"

    def _file(self, key: str, parameter: pb.ModelRepositoryParameter) -> bytes:
        """The content of a file that a load brings."""
        if not self._settings.allow_file_override:
            raise ControlFailed(
                "this server takes no files with a load: start it with --allow-file-override, or "
                "put them into the repository"
            )
        if parameter.WhichOneof("parameter_choice") != "bytes_param":
            raise InvalidRequest(f"parameter '{key[:64]}' must be bytes: the file's content")
        if version_file(key.removeprefix(_FILE)) is None:
            raise InvalidRequest(
                f"'{key[:64]}' is no place for a file: use file:VERSION/NAME, such as "
                "file:1/model.onnx, with a plain file name"
            )
        content: bytes = parameter.bytes_param
        return content


def _in_memory(contents: Mapping[str, bytes]) -> tuple[int, tuple[tuple[str, int, int], ...]]:
    """Files side by side in a new memfd: its descriptor, and (path, offset, size) of each."""
    fd = os.memfd_create("trtserve files", os.MFD_CLOEXEC)
    places, offset = [], 0
    try:
        with os.fdopen(os.dup(fd), "wb", buffering=0) as memory:
            for path, content in contents.items():
                left = memoryview(content)
                while left:
                    left = left[memory.write(left):]
                places.append((path, offset, len(content)))
                offset += len(content)
    except BaseException:
        os.close(fd)
        raise
    return fd, tuple(places)
