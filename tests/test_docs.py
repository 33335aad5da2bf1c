"""The docs are held to the code: commands, tables, columns, links, and what they must not contain."""

import doctest
import importlib
import re
import subprocess
from pathlib import Path

import pytest

from opdviz import __version__
from opdviz.cli import COMMANDS, parsed, parser
from opdviz.cli.command import Command
from opdviz.measures import MEASURES
from opdviz.quantities import QUANTITIES
from opdviz.store.columns import PAIRING_TABLES
from opdviz.tables import TABLES
from tests import reference

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
# Only these are loaded: a module without an example, as that of the trainers, costs seconds.
EXAMPLES = [p for p in sorted((ROOT / "opdviz").rglob("*.py")) if ">>> " in p.read_text()]
DOCS = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("cache/*.md")]


def name_of(path: Path) -> str:
    """A file's name as a module."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("path", EXAMPLES, ids=name_of)
def test_the_examples_in_docstrings_give_what_they_say(path):
    ran = doctest.testmod(importlib.import_module(name_of(path)))
    assert ran.attempted and not ran.failed


def test_every_command_stands_in_the_readme():
    written = re.findall(r"^\| `opdviz ([a-z]+)", README, re.M)
    assert written == [command.name for command in COMMANDS]


def test_every_command_that_is_written_can_be_called():
    written = {
        value.name
        for path in (ROOT / "opdviz" / "cli").glob("*.py")
        for value in vars(importlib.import_module(name_of(path))).values()
        if isinstance(value, Command)
    }
    assert written == {command.name for command in COMMANDS}


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_the_readme_names_a_command_s_options_and_its_example_is_one(command):
    (row,) = re.findall(rf"^\| `opdviz {command.name}\b(.*?)` \|", README, re.M)
    options = {
        name for argument in command.arguments for name in argument.names if name.startswith("--")
    }
    assert options - {"--job"} == set(re.findall(r"--[a-z-]+", row)), row
    parsed(parser(), command.example.split()[1:])


def test_the_reference_is_that_of_the_commands():
    page = reference.text()
    assert reference.PAGE.read_text() == page, "python -m tests.reference writes it"
    assert reference.PAIRS.read_text() == reference.pairs_text(), "so it does that of pairs"
    assert "| - |" not in page, "an argument without a word of help"
    for command in COMMANDS:
        assert f"## opdviz {command.name}\n" in page and f"    {command.example}\n" in page


def test_the_citation_says_the_version_and_the_licence():
    cited = dict(re.findall(r"^([a-z-]+): (.+)$", (ROOT / "CITATION.cff").read_text(), re.M))
    assert cited["version"] == __version__ and cited["license"] == "Apache-2.0"
    assert cited["cff-version"] == "1.2.0" and cited["type"] == "software"


def test_every_table_stands_in_the_readme():
    for table in TABLES:
        assert f"`{table}`" in README, table


def test_every_stored_column_stands_in_quantities():
    columns = {c for m in MEASURES for cs in m.TABLES.values() for c in cs} | {
        c for cs in PAIRING_TABLES.values() for c in cs
    }
    assert columns <= set(QUANTITIES)


def test_the_tree_of_the_readme_is_that_of_the_files():
    tree = re.search(r"<!-- tree -->\n```\n(.*?)\n```\n", README, re.S)[1]
    written, folders = set(), []
    for line in tree.splitlines():
        depth, name = (len(line) - len(line.lstrip())) // 2, line.split()[0]
        folders[depth:] = [name]
        if name.endswith(".py"):
            written.add("".join(folders))
    sources = [ROOT / "app.py", *ROOT.glob("pages/*/*.py"), *ROOT.glob("opdviz/**/*.py")]
    packages = {path for path in sources if path.name in ("__init__.py", "__main__.py")}
    empty = {path for path in packages if len(path.read_text().splitlines()) <= 10}
    assert written == {str(path.relative_to(ROOT)) for path in sources if path not in empty}


def test_the_readme_s_lines_of_python_run(golden_store, tmp_path, monkeypatch):
    (code,) = re.findall(r"## From Python\n```python\n(.*?)```", README, re.S)
    (name,) = [comparison.name for comparison in golden_store.all()]
    names: dict = {}
    monkeypatch.chdir(tmp_path)
    exec(code.replace('"cache"', repr(str(golden_store.root))).replace("demo", name), names)
    assert len(names["tensors"]) == 30 and names["layers"].data
    assert names["numbers"]["stable_rank"] and (tmp_path / "layers.csv").stat().st_size > 100


def test_links_of_the_docs_lead_somewhere():
    found = [(doc, link) for doc in DOCS for link in re.findall(r"\]\(([^)#]+)\)", doc.read_text())]
    assert found
    for doc, link in found:
        assert link.startswith("http") or (doc.parent / link).exists(), f"{doc.name}: {link}"


def test_the_two_commands_of_the_readme_are_one_line_each():
    for label in ("app command", "test command"):
        block = re.search(rf"<!-- {label} -->\n```\n(.*?)\n```\n", README, re.S)
        assert block and "\n" not in block[1]
        assert "torch==2.13.0" in block[1]
    told = subprocess.run(
        ["bash", "-c", ci_extraction()], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert (
        told.stdout.strip()
        == re.search(r"<!-- test command -->\n```\n(.*?)\n```\n", README, re.S)[1]
    )


def ci_extraction() -> str:
    """The line of .ci/run that takes the test command out of the README, printing it."""
    (line,) = re.findall(r"^command=\$\((.*)\)$", (ROOT / ".ci" / "run").read_text(), re.M)
    return line


def test_every_line_of_the_configuration_has_its_reason_above():
    lines = (ROOT / ".streamlit" / "config.toml").read_text().splitlines()
    settings = [at for at, line in enumerate(lines) if "=" in line and not line.startswith("#")]
    assert len(settings) > 20
    for at in settings:
        assert lines[at - 1].startswith("# "), lines[at]
