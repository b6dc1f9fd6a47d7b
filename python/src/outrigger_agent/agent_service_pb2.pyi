from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Status(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SUCCESS: _ClassVar[Status]
    PARTIAL: _ClassVar[Status]
    FAILED: _ClassVar[Status]
    TIMEOUT: _ClassVar[Status]
SUCCESS: Status
PARTIAL: Status
FAILED: Status
TIMEOUT: Status

class TaskRequest(_message.Message):
    __slots__ = ("task_id", "correlation_id", "agent_type", "input", "metadata", "max_tokens", "temperature")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    CORRELATION_ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_TYPE_FIELD_NUMBER: _ClassVar[int]
    INPUT_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    MAX_TOKENS_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    correlation_id: str
    agent_type: str
    input: str
    metadata: _containers.ScalarMap[str, str]
    max_tokens: int
    temperature: float
    def __init__(self, task_id: _Optional[str] = ..., correlation_id: _Optional[str] = ..., agent_type: _Optional[str] = ..., input: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ..., max_tokens: _Optional[int] = ..., temperature: _Optional[float] = ...) -> None: ...

class TaskResponse(_message.Message):
    __slots__ = ("task_id", "output", "status", "tokens_used", "latency_ms", "tool_calls")
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TOKENS_USED_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    TOOL_CALLS_FIELD_NUMBER: _ClassVar[int]
    task_id: str
    output: str
    status: Status
    tokens_used: int
    latency_ms: int
    tool_calls: _containers.RepeatedCompositeFieldContainer[ToolCall]
    def __init__(self, task_id: _Optional[str] = ..., output: _Optional[str] = ..., status: _Optional[_Union[Status, str]] = ..., tokens_used: _Optional[int] = ..., latency_ms: _Optional[int] = ..., tool_calls: _Optional[_Iterable[_Union[ToolCall, _Mapping]]] = ...) -> None: ...

class TaskChunk(_message.Message):
    __slots__ = ("chunk", "is_final")
    CHUNK_FIELD_NUMBER: _ClassVar[int]
    IS_FINAL_FIELD_NUMBER: _ClassVar[int]
    chunk: str
    is_final: bool
    def __init__(self, chunk: _Optional[str] = ..., is_final: bool = ...) -> None: ...

class ToolCall(_message.Message):
    __slots__ = ("tool_name", "arguments", "result", "latency_ms")
    TOOL_NAME_FIELD_NUMBER: _ClassVar[int]
    ARGUMENTS_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    LATENCY_MS_FIELD_NUMBER: _ClassVar[int]
    tool_name: str
    arguments: str
    result: str
    latency_ms: int
    def __init__(self, tool_name: _Optional[str] = ..., arguments: _Optional[str] = ..., result: _Optional[str] = ..., latency_ms: _Optional[int] = ...) -> None: ...

class HealthRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class HealthResponse(_message.Message):
    __slots__ = ("healthy", "agent_name", "version", "checks")
    class ChecksEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    HEALTHY_FIELD_NUMBER: _ClassVar[int]
    AGENT_NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    CHECKS_FIELD_NUMBER: _ClassVar[int]
    healthy: bool
    agent_name: str
    version: str
    checks: _containers.ScalarMap[str, str]
    def __init__(self, healthy: bool = ..., agent_name: _Optional[str] = ..., version: _Optional[str] = ..., checks: _Optional[_Mapping[str, str]] = ...) -> None: ...
