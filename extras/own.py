"""What people bring along: a function of theirs, in a file of theirs."""

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path


def function_in(file, name):
    """A function by its name in a file of Python; ValueError where there is none."""
    if not Path(file).is_file():
        raise ValueError(f"feedback {file}:{name}: there is no file {file}")
    found = spec_from_file_location("feedback_source", file)
    module = module_from_spec(found)
    found.loader.exec_module(module)
    if not hasattr(module, name):
        raise ValueError(f"feedback {file}:{name}: {file} defines no {name}")
    return getattr(module, name)
