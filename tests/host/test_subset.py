"""The bundled subset refuses what it lacks. Each case runs in a process of its own, on the subset in any case."""

import json
import subprocess
import sys

import pytest

from vis_core.host import HOST_ROOT


def run_on_subset(code: str, **env) -> subprocess.CompletedProcess:
    code = f"import sys; sys.path.insert(0, {str(HOST_ROOT)!r})\n{code}"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**env}, timeout=120)


@pytest.fixture(scope="module")
def errors() -> dict[str, list[str]]:
    """{statement: [error class, message]}, all from one process."""
    statements = [
        "import detectron2.nothing",
        "from detectron2 import nothing",
        "import detectron2.layers.nothing",
        "from detectron2.layers import Nothing",
        "from detectron2.layers.mask_ops import nothing",
        "import detectron2.layers.mask_ops as m; m.nothing",
        "import detectron2.layers.mask_ops as m; m.__nothing__",
    ]
    run = run_on_subset(
        f"import json\nout = {{}}\nfor s in {statements!r}:\n"
        "    try:\n        exec(s)\n    except Exception as e:\n"
        "        out[s] = [type(e).__name__, str(e)]\nprint(json.dumps(out))"
    )
    assert run.returncode == 0, run.stderr
    return json.loads(run.stdout)


@pytest.mark.parametrize(
    ("statement", "error", "name"),
    [
        ("import detectron2.nothing", "ModuleNotFoundError", "detectron2.nothing"),
        ("from detectron2 import nothing", "ImportError", "detectron2.nothing"),
        ("import detectron2.layers.nothing", "ModuleNotFoundError", "detectron2.layers.nothing"),
        ("from detectron2.layers import Nothing", "ImportError", "detectron2.layers.Nothing"),
        ("from detectron2.layers.mask_ops import nothing", "ImportError", "detectron2.layers.mask_ops.nothing"),
        ("import detectron2.layers.mask_ops as m; m.nothing", "AttributeError", "detectron2.layers.mask_ops.nothing"),
    ],
)
def test_absent_names_point_to_the_official_package(errors, statement, error, name):
    kind, message = errors[statement]
    assert kind == error
    assert message.startswith(name + " ")
    assert "official package" in message and "github.com/facebookresearch/detectron2" in message


def test_special_attributes_keep_python_s_own_error(errors):
    kind, message = errors["import detectron2.layers.mask_ops as m; m.__nothing__"]
    assert kind == "AttributeError" and "official" not in message


def test_feature_tests_still_work():
    run = run_on_subset(
        "import detectron2.layers as l, detectron2.layers.mask_ops as n, pickle\n"
        "assert not hasattr(l, 'Nothing') and getattr(n, 'nothing', 5) == 5\n"
        "assert pickle.loads(pickle.dumps(l.ShapeSpec)) is l.ShapeSpec\n"
    )
    assert run.returncode == 0, run.stderr


def test_environment_is_prepared_once(tmp_path):
    (tmp_path / "setup_here.py").write_text("def setup_environment():\n    print('called')\n")
    env = {"DETECTRON2_ENV_MODULE": str(tmp_path / "setup_here.py"), "DETECTRON2_DISABLE_CV2": "1"}
    run = run_on_subset(
        "import detectron2\nfrom detectron2.utils.env import setup_environment\nsetup_environment()\n"
        "try:\n    import cv2\nexcept ImportError:\n    print('no cv2', detectron2.__version__)",
        **env,
    )
    assert run.stdout.splitlines() == ["called", "no cv2 0.6"], run.stderr


def test_opencl_is_switched_off():
    run = run_on_subset("import detectron2, os, cv2; print(os.environ['OPENCV_OPENCL_RUNTIME'], cv2.ocl.useOpenCL())")
    assert run.stdout.split() == ["disabled", "False"], run.stderr
