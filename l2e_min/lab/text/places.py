"""Where installed text is found: a fixed list of families, packages and file endings, with how much is taken of each.

The same package versions give the same text. All of it comes with the standard library or with packages that this
project needs in any case; a package that is absent makes its families smaller.
"""

from dataclasses import dataclass

MB = 1_000_000
SKIP = frozenset("test tests testing testdata locale __pycache__ site-packages dist-packages lib-dynload idle_test "
                 "ensurepip encodings lib2to3 pydoc_data turtledemo node_modules".split())  # fmt: skip
"""Folders never read: generated tables, near-copies, translations (read on their own), what not every Python ships."""


@dataclass(frozen=True)
class Files:
    """Files of one family. `where`: places (see `locate`), `suffixes`: endings, `cap`: bytes taken, `skip`: folders.

    `chunk`: files longer than twice that are cut into documents of about so many characters, for a family of which one
    file holds most of the text: its sections are then split as other families' files are.
    """

    family: str
    where: tuple[str, ...]
    suffixes: tuple[str, ...]
    cap: float = MB
    skip: frozenset[str] = SKIP
    chunk: int | None = None


CODE = ("torch", "transformers", "accelerate", "datasets", "huggingface_hub", "tokenizers", "safetensors")
PROSE = ("numpy", "scipy", "sklearn", "networkx")  # their docstrings; their code is read nowhere else
WEB = ("sphinx", "docutils", "pydata_sphinx_theme", "sphinx_book_theme", "alabaster", "jupyter_book", "sphinx_design",
       "sphinx_copybutton", "sphinx_togglebutton", "sphinx_thebe", "sphinx_comments", "sphinx_proof", "sphinx_exercise",
       "myst_nb", "matplotlib", "ipywidgets", "widgetsnbextension", "jupyterlab_widgets", "sklearn", "torch", "pandas",
       "networkx", "IPython", "ipykernel", "fontTools", "tornado")  # fmt: skip
DATA_FILES = ("torch", "torchgen", "datasets", "transformers", "scipy", "sklearn", "numpy", "matplotlib", "pandas",
              "jsonschema", "jsonschema_specifications", "nbformat", "jupyter_book", "networkx", "docutils", "sympy",
              "myst_nb", "mdit_py_plugins", "markdown_it", "sphinx_external_toc", "fastjsonschema")  # fmt: skip
DISTRIBUTIONS = tuple(
    """
    accelerate alabaster annotated-types anyio asttokens attrs babel beautifulsoup4 certifi charset-normalizer
    click comm contourpy cycler datasets debugpy dill docutils executing fastjsonschema filelock
    fonttools fsspec h11 hf-xet huggingface-hub idna imagesize importlib-metadata ipykernel ipython ipywidgets
    jedi jinja2 joblib jsonschema jsonschema-specifications jupyter-book jupyter-cache jupyter-client jupyter-core
    jupytext kiwisolver latexcodec linkify-it-py markdown-it-py markupsafe matplotlib matplotlib-inline
    mdit-py-plugins mdurl mpmath multiprocess myst-nb myst-parser nbclient nbformat networkx numpy packaging
    pandas parso pexpect pillow platformdirs prompt-toolkit psutil ptyprocess pure-eval pyarrow pybtex pydantic
    pydantic-core pydata-sphinx-theme pygments pyparsing python-dateutil pyyaml pyzmq referencing regex requests
    rich rpds-py safetensors scikit-learn scipy setuptools snowballstemmer soupsieve sphinx sphinx-book-theme
    sphinx-copybutton sphinx-design sphinx-exercise sphinx-proof sphinx-togglebutton sphinxcontrib-bibtex
    sqlalchemy stack-data sympy tabulate threadpoolctl tokenizers torch tornado tqdm traitlets transformers typer
    typing-extensions tzdata urllib3 wcwidth wheel xxhash zipp
    """.split()
)
"""What this project's own dependencies bring in; readmes and licences are theirs."""

GROUPS = (
    Files("python", ("stdlib",), (".py",), 8 * MB, SKIP | {"idlelib"}),
    Files("python", CODE, (".py",), 9 * MB),
    Files("cpp", ("torch/include", "pyarrow/include"), (".h", ".hpp", ".cuh"), 5 * MB, SKIP | {"ops", "fmt"}),
    Files("c", ("include", "numpy/_core/include", "numpy/_core/lib", "numpy/f2py", "numpy/random", "sklearn", "scipy"),
          (".c", ".h"), 2 * MB, SKIP - {"tests"}),
    Files("cython", ("scipy", "sklearn", "pyarrow", "numpy"), (".pyx", ".pxd", ".pxi"), 3.5 * MB),
    Files("javascript", WEB, (".js", ".mjs"), 2 * MB),
    Files("html", ("stdlib", *WEB), (".html", ".htm", ".tpl"), chunk=8000),
    Files("css", WEB, (".css", ".scss")),
    Files("cmake", ("torch", "pyarrow", "numpy"), (".cmake",)),
    Files("latex", ("sphinx", "docutils"), (".sty", ".cls", ".tex", ".tex.jinja", ".sty.jinja", ".xtx")),
    Files("json", DATA_FILES, (".json",), 2 * MB, SKIP - {"tests"}),
    Files("yaml", DATA_FILES, (".yaml", ".yml"), 1 * MB),
    Files("tables", DATA_FILES, (".csv", ".tsv"), 1.5 * MB, SKIP - {"tests"}),
    Files("manual", ("sklearn",), (".rst",)),
)  # fmt: skip
DOCSTRING_CAP = 7.5 * MB
"""Bytes of docstrings taken: reading more costs seconds (their code must be parsed)."""
