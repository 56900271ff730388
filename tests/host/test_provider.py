import subprocess
import sys
from pathlib import Path

from vis_core.host import provider

ROOT = Path(__file__).resolve().parents[2]
SHOW = "import vis_core, detectron2; from vis_core.host import provider; print(provider(), detectron2.__version__)"


def run_in(folder: Path) -> str:
    code = f"import sys; sys.path[:0] = [{str(folder)!r}, {str(ROOT)!r}]; {SHOW}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_an_installed_package_wins(tmp_path):
    (tmp_path / "detectron2").mkdir()
    (tmp_path / "detectron2" / "__init__.py").write_text('__version__ = "9.9"\n')
    assert run_in(tmp_path) == ["official", "9.9"]


def test_a_folder_without_a_package_does_not(tmp_path):
    (tmp_path / "detectron2" / "projects").mkdir(parents=True)
    assert run_in(tmp_path)[0] == provider()
