"""Writes every generated file of the repository, or checks that all are up to date.

    python docs/generate            write
    python docs/generate --check    exit 1 and name what is out of date

The package must be importable for the reference page (installed with `pip install -e .`, or built in place).
"""

import pathlib
import sys

import c_header
import fidelity
import reference
import stub

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))
OUTPUTS = {
    "mm/include/mm.h": c_header.header,
    "mm/_fast/capi.pxd": c_header.capi_pxd,
    "mm/_fast/capi.pyx": c_header.capi_pyx,
    "mm/_fast/machine_core.pyi": stub.stub,
    "docs/fidelity.md": fidelity.page,
    "docs/reference.md": reference.page,
}


def stale(root=ROOT):
    """{path: text it should have} of the files that are not as they would be generated now."""
    texts = {name: make(root) for name, make in OUTPUTS.items()}
    return {name: text for name, text in texts.items()
            if not (root / name).exists() or (root / name).read_text() != text}


def main(arguments):
    """Write or check; returns the exit status."""
    changed = stale()
    for name, text in changed.items():
        print(f"{name}: {'out of date' if '--check' in arguments else 'written'}")
        if "--check" not in arguments:
            (ROOT / name).write_text(text)
    return 1 if changed and "--check" in arguments else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
