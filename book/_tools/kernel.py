"""The kernel in which chapters run and are compared: one thread, no progress bars, none of the reader's own settings.

A progress bar holds timings, so two runs would never agree. A reader's own Jupyter shows them as usual.
"""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

CONFIG = """c.IPKernelApp.log_level = 40  # no word about the transport on stderr
c.HistoryManager.enabled = False
"""

STARTUP = '''def _no_bars():
    """Switches progress bars off, also where a caller asks for one."""
    from tqdm.notebook import tqdm_notebook

    init = tqdm_notebook.__init__
    tqdm_notebook.__init__ = lambda self, *args, **kwargs: init(self, *args, **{**kwargs, "disable": True})


_no_bars()
del _no_bars
'''


def quiet_kernels() -> None:
    """Sets the environment that kernels started by this process inherit."""
    folder = Path(os.environ.get("L2E_BUILD", ROOT / "_build")).resolve() / "ipython"
    profile = folder / "profile_default"
    (profile / "startup").mkdir(parents=True, exist_ok=True)
    for path, text in ((profile / "ipython_kernel_config.py", CONFIG), (profile / "startup" / "00-quiet.py", STARTUP)):
        if not path.exists() or path.read_text() != text:
            spare = path.with_name(f"{path.name}.{os.getpid()}.tmp")  # tests may do this at the same time
            spare.write_text(text)
            spare.replace(path)
    os.environ["IPYTHONDIR"] = str(folder)
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ["TQDM_DISABLE"] = "1"  # for bars outside notebooks' own class
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("L2E_PROFILE", "quick")  # a GPU in the machine must not change what the book prints
