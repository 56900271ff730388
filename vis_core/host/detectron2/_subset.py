"""Says clearly when something is asked for that the subset lacks.

A finder in front of ``sys.meta_path`` serves every ``detectron2.*`` module. It refuses absent modules with an
error that names the official package, and gives each module it loads a ``__getattr__`` that does the same for absent
names. Only ``from module import Absent`` becomes an ImportError; ``hasattr`` and ``getattr`` with a default see the
usual AttributeError, so feature tests and pickle keep working.
"""

import dis
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import PathFinder, SourceFileLoader
from importlib.util import spec_from_file_location

ROOT = __name__.partition(".")[0]
ADVICE = (
    "is not in the bundled subset of detectron2. Install the official package to use it "
    "(https://github.com/facebookresearch/detectron2); once installed it is used instead of the subset"
)
_IMPORT_FROM = dis.opmap["IMPORT_FROM"]


def module_getattr(module_name: str):
    """The module-level ``__getattr__`` (PEP 562) of the module ``module_name``."""

    def __getattr__(name: str):
        caller = sys._getframe(1)
        is_import = caller.f_lasti >= 0 and caller.f_code.co_code[caller.f_lasti] == _IMPORT_FROM
        if is_import:
            raise ImportError(f"{module_name}.{name} {ADVICE}", name=module_name)
        if name.startswith("__"):
            raise AttributeError(f"module {module_name!r} has no attribute {name!r}")
        raise AttributeError(f"{module_name}.{name} {ADVICE}")

    return __getattr__


class _SubsetLoader(SourceFileLoader):
    def exec_module(self, module) -> None:
        # Set before the module runs, so that a module's own __getattr__ replaces it.
        module.__getattr__ = module_getattr(module.__name__)
        super().exec_module(module)


class _SubsetFinder(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if not fullname.startswith(ROOT + "."):
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None:
            raise ModuleNotFoundError(f"{fullname} {ADVICE}", name=fullname)
        if spec.origin is None or not isinstance(spec.loader, SourceFileLoader):
            return spec
        return spec_from_file_location(
            fullname,
            spec.origin,
            loader=_SubsetLoader(fullname, spec.origin),
            submodule_search_locations=spec.submodule_search_locations,
        )


def install() -> None:
    """Put the finder in front of ``sys.meta_path``, once."""
    if not any(isinstance(f, _SubsetFinder) for f in sys.meta_path):
        sys.meta_path.insert(0, _SubsetFinder())
