"""What pyproject.toml cannot say: an installed ``projects`` holds the folder ``configs`` of the checkout."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["vis_core*", "projects*"]), "projects.configs"],
    package_dir={"projects.configs": "configs"},
)
