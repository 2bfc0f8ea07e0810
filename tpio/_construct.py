"""Classes whose objects only functions make, and members that a subclass does not have."""

from __future__ import annotations

from typing import Any, TypeVar

T = TypeVar("T")


class Absent:
    """Hides a member of the base class that means nothing for the class: `poll_read = Absent()`."""

    def __set_name__(self, owner: type, name: str) -> None:
        self._message = f"{owner.__name__} has no {name}"

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        raise AttributeError(self._message)


class NoPublicConstructor(type):
    """The metaclass of such a class: to call it raises TypeError, which names the function. `_create` makes an object.

    class Watcher(metaclass=NoPublicConstructor, made_by="tpio.watch"): ...
    """

    _made_by: str

    def __new__(mcs, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, made_by: str) -> Any:
        return super().__new__(mcs, name, bases, namespace)

    def __init__(cls, name: str, bases: tuple[type, ...], namespace: dict[str, Any], *, made_by: str) -> None:
        super().__init__(name, bases, namespace)
        cls._made_by = made_by

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        raise TypeError(f"{cls.__name__} has no public constructor: {cls._made_by} makes one")

    def _create(cls: type[T], *args: Any, **kwargs: Any) -> T:
        made: T = type.__call__(cls, *args, **kwargs)
        return made
