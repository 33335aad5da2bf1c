"""opdviz: what did training do to the weights?

Nothing is imported here, so that the app's process stays free of torch and a command pays only for what it uses.
"""

__version__ = "0.1.0"
