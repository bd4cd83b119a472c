"""`python -m elbert`, the same as `elbert`."""

import sys

from elbert.cli import main

if __name__ == "__main__":
    sys.exit(main())
