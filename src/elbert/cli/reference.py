"""Writes the page of all help pages: `python -m elbert.cli.reference > docs/cli.md`; a test keeps both alike."""

from __future__ import annotations

import sys
from typing import Any

from elbert.cli.app import VERBS, build_command, command

# Columns of the printed help pages: fixed, so that the page doesn't depend on anyone's terminal.
_WIDTH = 100

_PREFACE = """\
# Command line

<!-- Made by `python -m elbert.cli.reference > docs/cli.md`; a test fails where the two differ. -->

Results go to stdout, everything else to stderr. An error is one line that says what was given, what is allowed and how
to mend it. Set `ELBERT_DEBUG=1` to see the traceback of a bug.

Exit status:

- 0: done.
- 2: the request was wrong, so change the command line: a flag, value, policy or column that there is not; a model or
  file that is not there; an output that exists, or can't be made there.
- 1: the request led to something that failed, so change that: a row that can't be read, a label never seen, a damaged
  model; a full disk, a package that is missing, a port in use; a p-value below `check --fail-below`.
- 130: interrupted (Ctrl-C); 143: terminated (SIGTERM). `train` and `pretrain` go on with `--resume`.
"""


def reference() -> str:
    """Return the page as Markdown."""
    sections = [_PREFACE, f"## elbert\n\n{_fenced(command(), 'elbert')}"]
    for name, verb in VERBS.items():
        sections.append(f"## elbert {name}\n\n{_fenced(build_command(name, verb), f'elbert {name}')}")
    return "\n".join(sections)


def _fenced(built: Any, title: str) -> str:
    """Return one command's help page as a code block."""
    context = built.make_context(title, [], resilient_parsing=True, terminal_width=_WIDTH, max_content_width=_WIDTH)
    lines = [line.rstrip() for line in built.get_help(context).splitlines()]
    return "```text\n" + "\n".join(lines) + "\n```\n"


if __name__ == "__main__":
    sys.stdout.write(reference())
