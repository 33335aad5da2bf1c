"""`python -m opdviz`."""

import sys

from opdviz.cli import main

if __name__ == "__main__":
    sys.exit(main())
