"""The compiled core.  All its modules live in one library; this finder loads them from there."""

import importlib.machinery
import importlib.util
import pathlib
import sys

_HERE = pathlib.Path(__file__).parent


class _CoreFinder:
    """Finds mm._fast.X as the PyInit_X of the one library _core."""

    def __init__(self, library):
        self.library = library

    def find_spec(self, name, path=None, target=None):
        if not name.startswith(__name__ + ".") or self._is_package(name):
            return None
        loader = importlib.machinery.ExtensionFileLoader(name, self.library)
        return importlib.util.spec_from_file_location(name, self.library, loader=loader)

    @staticmethod
    def _is_package(name):
        return (_HERE.joinpath(*name.split(".")[2:]) / "__init__.py").exists()


def _check_parent():
    """Another distribution's `mm` may have replaced our mm/__init__.py; say so before anything fails oddly."""
    parent = sys.modules[__name__.partition(".")[0]]
    if getattr(parent, "__distribution__", None) != "linux-mm":
        raise ImportError(f"{parent.__file__} is not linux-mm's package: another module named mm took its place; "
                          "pip uninstall mm && pip install --force-reinstall linux-mm")


def _install():
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        library = _HERE / ("_core" + suffix)
        if library.exists():
            sys.meta_path.insert(0, _CoreFinder(str(library)))
            return str(library)
    raise ImportError(f"the compiled core is missing in {_HERE}: build it with `pip install -e .`")


_check_parent()
LIBRARY = _install()
