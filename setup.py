"""Builds emogs._C with CMake and ninja; everything else about the package is in pyproject.toml."""

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pybind11
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError


def build_environment() -> dict[str, str]:
    """MAX_JOBS, as torch's extensions know it, unless CMake's own CMAKE_BUILD_PARALLEL_LEVEL says how many at once."""
    jobs = os.environ.get("MAX_JOBS")
    return ({"CMAKE_BUILD_PARALLEL_LEVEL": jobs} if jobs else {}) | os.environ


class CMakeBuild(build_ext):
    def build_extension(self, ext: Extension) -> None:
        source = Path(__file__).resolve().parent
        # A fixed folder, so that rebuilding an editable install compiles only what changed.
        build = source / "build" / f"cmake-{sysconfig.get_config_var('SOABI')}"
        build.mkdir(parents=True, exist_ok=True)
        options = {
            "CMAKE_BUILD_TYPE": "Release",
            # Said at every configure: the cache of an earlier isolated build names tools that are gone.
            "CMAKE_MAKE_PROGRAM": shutil.which("ninja"),
            "Python_EXECUTABLE": sys.executable,
            "pybind11_DIR": pybind11.get_cmake_dir(),
            "EMOGS_CUDA": os.environ.get("EMOGS_CUDA", "").lower() or "auto",
            "EMOGS_CUDA_ARCHS": os.environ.get("EMOGS_CUDA_ARCHS", ""),
        }
        definitions = [f"-D{name}={value}" for name, value in options.items()]
        configure = ["cmake", "-G", "Ninja", "-S", source, "-B", build, *definitions]
        if subprocess.run(configure).returncode:
            raise CompileError("CMake could not configure emogs, see above; it needs a C++17 compiler (or CXX=...)")
        if subprocess.run(["cmake", "--build", build], env=build_environment()).returncode:
            raise CompileError("emogs did not compile, see above; MAX_JOBS=1 needs least memory")
        module = Path(self.get_ext_fullpath(ext.name))
        module.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(build / module.name, module)


setup(ext_modules=[Extension("emogs._C", sources=[])], cmdclass={"build_ext": CMakeBuild})
