"""The library that holds every compiled module; see mm/_fast/__init__.py."""
