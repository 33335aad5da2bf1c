"""`python -m opdviz`."""

from opdviz.cli import entry

if __name__ == "__main__":
    entry()
