"""Two process-wide tables: dataset name -> loading function, and dataset name -> facts about the dataset."""

from types import SimpleNamespace

__all__ = ["DatasetCatalog", "Metadata", "MetadataCatalog"]


class _DatasetTable(dict):
    """Names and the functions that load their records (a list of dicts, one per image or video)."""

    def register(self, name: str, func) -> None:
        """Make ``get(name)`` call ``func()``. A name may be registered once (AssertionError)."""
        assert callable(func), f"dataset '{name}' needs a function without arguments, got {func!r}"
        assert name not in self, f"dataset '{name}' is registered already"
        self[name] = func

    def get(self, name: str):
        """Records of a dataset; they are loaded anew at every call. Unknown name: KeyError."""
        if name not in self:
            raise KeyError(f"dataset '{name}' is not registered; there are: {', '.join(self) or 'none'}")
        return self[name]()

    def list(self) -> list[str]:
        """Registered names, in order of registration."""
        return [*self]

    def remove(self, name: str) -> None:
        """Forget a name; unknown name: KeyError."""
        self.pop(name)

    # tables are compared and hashed by identity
    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"DatasetCatalog({', '.join(self)})"


class Metadata(SimpleNamespace):
    """Facts about one dataset as attributes (``thing_classes``, ``json_file``, ...).

    An attribute that has a value keeps it: setting an equal value does nothing, another one is an AssertionError.
    That way two places that describe the same dataset cannot silently disagree.
    """

    name: str = "N/A"

    def __getattr__(self, key: str):
        # only reached for names that are not set
        raise AttributeError(f"metadata of dataset '{self.name}' has no '{key}'; it has: {', '.join(self.__dict__)}")

    def __setattr__(self, key: str, value) -> None:
        if key in self.__dict__:
            old = self.__dict__[key]
            assert old == value, f"metadata '{key}' of dataset '{self.name}' is {old!r} and cannot become {value!r}"
        super().__setattr__(key, value)

    def as_dict(self) -> dict:
        """Copy of all attributes; changing the dict does not change the metadata."""
        return dict(self.__dict__)

    def set(self, **values) -> "Metadata":
        """Set several attributes, return self."""
        for key, value in values.items():
            setattr(self, key, value)
        return self

    def get(self, key: str, default=None):
        """Value of an attribute, ``default`` where it is missing."""
        return self.__dict__.get(key, default)


class _MetadataTable(dict):
    """Names and their :class:`Metadata`."""

    def get(self, name: str) -> Metadata:
        """Metadata of a dataset; empty metadata is created for a name that was never asked for."""
        assert name, "metadata needs the name of a dataset"
        if name not in self:
            self[name] = Metadata(name=name)
        return self[name]

    def list(self) -> list[str]:
        """Names that have metadata."""
        return [*self]

    def remove(self, name: str) -> None:
        """Forget a name; unknown name: KeyError."""
        self.pop(name)

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return f"MetadataCatalog({', '.join(self)})"


DatasetCatalog = _DatasetTable()
MetadataCatalog = _MetadataTable()
