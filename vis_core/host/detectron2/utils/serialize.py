"""Objects that plain pickle refuses."""

import cloudpickle


class PicklableWrapper:
    """Wraps a callable (a lambda, a local function) so that pickle can send it to another process.

    The wrapper behaves as the wrapped object: calls and attributes go through.
    """

    def __init__(self, obj):
        while isinstance(obj, PicklableWrapper):
            obj = obj._obj
        self._obj = obj

    def __reduce__(self):
        return _unpickle, (cloudpickle.dumps(self._obj),)

    def __call__(self, *args, **kwargs):
        return self._obj(*args, **kwargs)

    def __getattr__(self, name):
        if name == "_obj":  # not there yet while unpickling or copying
            raise AttributeError(name)
        return getattr(self._obj, name)


def _unpickle(data: bytes) -> PicklableWrapper:
    return PicklableWrapper(cloudpickle.loads(data))
