"""A stand-in for Pulumi's azure-native provider: the engine's protocol on one side, an ARM endpoint on the other.

The real one cannot be built without its published binary. The engine attaches to this one, which lives in the tests'
process (PULUMI_DEBUG_PROVIDERS). It checks no schema: a test that passes shows the program, the engine and the rules
of replacement at work, not Azure's agreement.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
from google.protobuf import empty_pb2, json_format, struct_pb2
from pulumi.runtime.proto import plugin_pb2, provider_pb2, provider_pb2_grpc

from tests.infra.arm_calls import Arm, ArmRefused
from tests.infra.azure_types import KINDS, READ_ONLY, SERVER, Kind, Values

_SIGNATURE, _SECRET = "4dabf18193072939515e22adb298388d", "1b47061264138c4ac30d75fd1eb44270"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_NO_LIMIT = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
_CHANGE = provider_pb2.PropertyDiff


class StandInProvider(provider_pb2_grpc.ResourceProviderServicer):  # type: ignore[misc]
    """`adopts`: creating what is there already takes it over. The real provider refuses, and has `import` for that."""

    def __init__(self, arm: Arm, *, adopts: bool = False) -> None:
        self.arm, self.adopts = arm, adopts
        self._grpc = grpc.server(ThreadPoolExecutor(8, thread_name_prefix="provider"), options=_NO_LIMIT)
        provider_pb2_grpc.add_ResourceProviderServicer_to_server(self, self._grpc)
        self.port = self._grpc.add_insecure_port("127.0.0.1:0")

    def __enter__(self) -> StandInProvider:
        self._grpc.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._grpc.stop(None).wait()

    def Handshake(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.ProviderHandshakeResponse(accept_secrets=True)

    def Attach(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def Cancel(self, request: Any, context: Any) -> Any:  # noqa: N802
        return empty_pb2.Empty()

    def GetPluginInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        return plugin_pb2.PluginInfo(version="3.29.0")

    def CheckConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.CheckResponse(inputs=request.news)

    def DiffConfig(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.DiffResponse(changes=provider_pb2.DiffResponse.DIFF_NONE)

    def Configure(self, request: Any, context: Any) -> Any:  # noqa: N802
        return provider_pb2.ConfigureResponse(acceptSecrets=True, supportsPreview=True)

    def Check(self, request: Any, context: Any) -> Any:  # noqa: N802
        if _type(request.urn) not in KINDS:
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in does not know {_type(request.urn)}")
        return provider_pb2.CheckResponse(inputs=request.news)

    def Diff(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind = KINDS[_type(request.urn)]
        found = dict(differences(_plain(request.old_inputs), _plain(request.news)))
        detailed = {
            path: _CHANGE(kind=_kind_of(how, kind.replaces(path)), inputDiff=True) for path, how in found.items()
        }
        none, some = provider_pb2.DiffResponse.DIFF_NONE, provider_pb2.DiffResponse.DIFF_SOME
        return provider_pb2.DiffResponse(
            changes=some if found else none,
            diffs=sorted({path.partition(".")[0] for path in found}),
            replaces=sorted({path.partition(".")[0] for path in found if kind.replaces(path)}),
            # Two resources with one address cannot be there at once.
            deleteBeforeReplace=True,
            detailedDiff=detailed,
            hasDetailedDiff=True,
        )

    def Create(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind, inputs = KINDS[_type(request.urn)], _plain(request.properties)
        if request.preview:
            computed = {"name": _UNKNOWN} | ({"fullyQualifiedDomainName": _UNKNOWN} if kind is SERVER else {})
            return provider_pb2.CreateResponse(properties=_struct({**inputs, **computed}))
        address = kind.address(self.arm.subscription, inputs)
        try:
            if not (kind.singleton or self.adopts) and self._exists(address, kind):
                context.abort(grpc.StatusCode.ALREADY_EXISTS, f"cannot create already existing resource '{address}'")
            self.arm.write("PUT", address, kind.version, kind.body(inputs))
            outputs = kind.outputs(self.arm.get(address, kind.version))
        except ArmRefused as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return provider_pb2.CreateResponse(id=address, properties=_state(outputs, request.properties))

    def Read(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind = KINDS[_type(request.urn)]
        try:
            outputs = kind.outputs(self.arm.get(request.id, kind.version))
        except ArmRefused as error:
            if error.status == 404:
                return provider_pb2.ReadResponse()
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        before = _plain(request.properties)
        inputs = followed(_json(request.inputs), before, outputs)
        return provider_pb2.ReadResponse(
            id=request.id, properties=_state(outputs, _struct(inputs)), inputs=_struct(inputs)
        )

    def Update(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind, inputs = KINDS[_type(request.urn)], _plain(request.news)
        if request.preview:
            return provider_pb2.UpdateResponse(properties=_struct({**_plain(request.olds), **inputs}))
        try:
            self.arm.write("PUT", request.id, kind.version, kind.body(inputs))
            outputs = kind.outputs(self.arm.get(request.id, kind.version))
        except ArmRefused as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return provider_pb2.UpdateResponse(properties=_state(outputs, request.news))

    def Delete(self, request: Any, context: Any) -> Any:  # noqa: N802
        kind = KINDS[_type(request.urn)]
        try:
            self.arm.write("DELETE", request.id, kind.version)
        except ArmRefused as error:
            if error.status != 404:
                context.abort(grpc.StatusCode.UNKNOWN, str(error))
        return empty_pb2.Empty()

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        if request.tok != "azure-native:dbforpostgresql:getServer":
            context.abort(grpc.StatusCode.UNIMPLEMENTED, f"the stand-in does not know {request.tok}")
        try:
            address = SERVER.address(self.arm.subscription, _plain(request.args))
            shown = SERVER.outputs(self.arm.get(address, SERVER.version))
        except ArmRefused as error:
            context.abort(grpc.StatusCode.UNKNOWN, str(error))
        # `return` is a keyword of Python: the field can be set by its name only.
        return provider_pb2.InvokeResponse(**{"return": _struct(shown)})

    def _exists(self, address: str, kind: Kind) -> bool:
        try:
            self.arm.get(address, kind.version)
        except ArmRefused as error:
            if error.status == 404:
                return False
            raise
        return True


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Paths of leaves that differ, and how. A region is the same with and without spaces and capitals."""
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}):
            inner = f"{path}.{key}" if path else key
            if key not in before or key not in after:
                yield inner, "delete" if key in before else "add"
            else:
                yield from differences(before[key], after[key], inner)
    elif before != after and not (path == "location" and _region(before) == _region(after)):
        yield path, "update"


def followed(inputs: Values, before: Mapping[str, Any], now: Mapping[str, Any]) -> Values:
    """Inputs as the real provider has them after a refresh: what Azure shows differently than before is taken over."""
    result = dict(inputs)
    for key in {*before, *now} - READ_ONLY - {"__inputs", "id", "type"}:
        was, shown = before.get(key), now.get(key)
        if was == shown:
            continue
        mine = result.get(key)
        if isinstance(mine, dict) and isinstance(was, Mapping) and isinstance(shown, Mapping):
            result[key] = followed(mine, was, shown)
        elif shown is None:
            result.pop(key, None)
        else:
            result[key] = shown
    return result


def _kind_of(how: str, replaces: bool) -> int:
    return int(getattr(_CHANGE, f"{how.upper()}_REPLACE" if replaces else how.upper()))


def _type(urn: str) -> str:
    return urn.split("::")[2].rpartition("$")[2]


def _region(value: object) -> str:
    return str(value).replace(" ", "").lower()


def _json(struct: struct_pb2.Struct) -> Values:
    return _numbers(json_format.MessageToDict(struct))


def _plain(struct: struct_pb2.Struct) -> Values:
    """Without the wrapping of secrets."""
    return dict(_unwrapped(_json(struct)))


def _unwrapped(value: Any) -> Any:
    if isinstance(value, dict):
        if value.get(_SIGNATURE) == _SECRET:
            return _unwrapped(value["value"])
        return {key: _unwrapped(item) for key, item in value.items()}
    return [_unwrapped(item) for item in value] if isinstance(value, list) else value


def _numbers(value: Any) -> Any:
    """Whole numbers are numbers with a fraction on the wire; ARM wants them whole."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _struct(values: Mapping[str, Any]) -> struct_pb2.Struct:
    made = struct_pb2.Struct()
    made.update(values)
    return made


def _state(outputs: Mapping[str, Any], inputs: struct_pb2.Struct) -> struct_pb2.Struct:
    """As the real provider: the inputs are kept once more among the outputs, as a secret."""
    return _struct({**outputs, "__inputs": {_SIGNATURE: _SECRET, "value": _json(inputs)}})
