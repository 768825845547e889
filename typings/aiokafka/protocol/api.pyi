from typing import Any, ClassVar, Generic, TypeVar

_T = TypeVar("_T")

class Response:
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def to_object(self) -> dict[str, Any]: ...

class RequestStruct:
    API_KEY: ClassVar[int]
    API_VERSION: ClassVar[int]
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...

class Request(Generic[_T]):
    API_KEY: ClassVar[int]
    def build(self, request_struct_class: type[_T]) -> _T: ...
