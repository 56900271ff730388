"""Classes and functions that are called either with a config or with explicit arguments."""

import functools
import inspect

from omegaconf import DictConfig
from yacs.config import CfgNode as _YacsNode

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)


def configurable(init_func=None, *, from_config=None):
    """Let a class's ``__init__``, or a function, also be called with a config as first argument.

    On ``__init__`` the class must have a classmethod ``from_config(cls, cfg, ...)`` that returns the keyword arguments
    of ``__init__``; a subclass may override it. On a function it reads ``@configurable(from_config=f)`` with
    ``f(cfg, ...)`` returning the function's keyword arguments. A call whose first positional argument, or keyword
    ``cfg``, is a config goes through ``from_config``; keyword arguments that ``from_config`` does not name extend or
    override what it returns. Every other call is passed on unchanged.

    Raises:
        AssertionError: on a function other than ``__init__`` without ``from_config``.
        AttributeError: (at the call) for a class without ``from_config``.
        TypeError: (at the call) if ``from_config`` is no classmethod or its first parameter is not ``cfg``.
    """
    if init_func is not None:
        assert inspect.isfunction(init_func) and init_func.__name__ == "__init__" and from_config is None, (
            "use @configurable on __init__, or @configurable(from_config=...) on a function"
        )
        return _configurable_init(init_func)
    if from_config is None:
        return configurable  # @configurable() on __init__
    assert inspect.isfunction(from_config), "from_config must be a function"
    return functools.partial(_configurable_function, from_config=from_config)


def _configurable_init(init_func):
    @functools.wraps(init_func)
    def wrapped(self, *args, **kwargs):
        cls = type(self)
        try:
            from_config = cls.from_config
        except AttributeError as e:
            raise AttributeError(f"{cls.__name__} uses @configurable but has no classmethod from_config") from e
        if not inspect.ismethod(from_config):
            raise TypeError(f"{cls.__name__}.from_config must be a classmethod")
        if _called_with_cfg(args, kwargs):
            init_func(self, **_explicit_arguments(from_config, args, kwargs))
        else:
            init_func(self, *args, **kwargs)

    return wrapped


def _configurable_function(function, from_config):
    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        if _called_with_cfg(args, kwargs):
            return function(**_explicit_arguments(from_config, args, kwargs))
        return function(*args, **kwargs)

    wrapped.from_config = from_config
    return wrapped


def _called_with_cfg(args: tuple, kwargs: dict) -> bool:
    return any(isinstance(x, _YacsNode | DictConfig) for x in (*args[:1], kwargs.get("cfg")))


def _explicit_arguments(from_config, args: tuple, kwargs: dict) -> dict:
    """The keyword arguments that ``from_config`` derives from a call with a config."""
    parameters = inspect.signature(from_config).parameters
    if next(iter(parameters), None) != "cfg":
        owner = getattr(from_config, "__self__", None)
        name = f"{owner.__name__}.from_config" if inspect.isclass(owner) else from_config.__name__
        raise TypeError(f"the first parameter of {name} must be called 'cfg'")
    if any(p.kind in _VARIADIC for p in parameters.values()):
        return from_config(*args, **kwargs)
    held_back = {k: v for k, v in kwargs.items() if k not in parameters}
    passed_on = {k: v for k, v in kwargs.items() if k in parameters}
    return {**from_config(*args, **passed_on), **held_back}
