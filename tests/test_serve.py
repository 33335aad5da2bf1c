"""What the server is told beforehand."""

import subprocess
import sys
import textwrap

KNOCK = """
from streamlit import net_util
from streamlit.web.server import server_util
from opdviz import serve

def asked(*_, **__):
    raise AssertionError("somebody outside was asked")

net_util._make_blocking_http_get = asked
{settled}
print(server_util.is_url_from_allowed_origins("http://elsewhere.example"))
"""


def knock(settled: str) -> subprocess.CompletedProcess:
    """A page of another origin knocks at Streamlit, in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(KNOCK).replace("{settled}", settled)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def test_a_page_of_another_origin_is_refused_and_nobody_outside_is_asked():
    done = knock("serve.settle()")
    assert done.stdout == "False\n", done.stderr


def test_streamlit_alone_would_ask_somebody():
    assert "somebody outside was asked" in knock("").stderr
