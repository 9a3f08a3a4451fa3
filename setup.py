"""Builds the native engine where it can be built; everything else is in pyproject.toml.

The extension is optional: without a C++ compiler for x86-64 that knows AVX512-IFMA the installation succeeds, says why
the fast engine is missing, and the other engines do the work. The compiler's flags are set here because the module's
own file must run on any processor, so as to say that the rest cannot. SONAR_NATIVE_FLAGS adds to them.
"""

import os
import platform
import shlex
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

SOURCES = "sonar/syft/engines/src"
KERNEL_FLAGS = ["-mavx512f", "-mavx512ifma", "-mavx512dq", "-mavx512vl"]
# GCC 12 takes the intrinsics' own undefined registers for mistakes (its bug 105593).
FLAGS = [
    "-std=c++17",
    "-O3",
    "-g0",
    "-fvisibility=hidden",
    "-pthread",
    "-Wno-uninitialized",
    "-Wno-maybe-uninitialized",
]


class BuildNative(build_ext):
    """Compiles the kernels with AVX-512 and the module without it."""

    def run(self) -> None:
        self._in_place = bool(self.inplace)  # setuptools unsets it while it builds
        super().run()

    def build_extension(self, ext: Extension) -> None:
        reason = _why_not(self.compiler.compiler_type)
        if reason is None:
            try:
                self._build(ext)
            except Exception as error:  # noqa: BLE001 - whatever a compiler does, the installation goes on
                reason = f"compiling it failed: {error}"
        if reason is not None:
            self._remove(ext)
            print(f"sonar: the native engine is not built, other engines will be used: {reason}", file=sys.stderr)

    def _remove(self, ext: Extension) -> None:
        """What an earlier build has left: it is of other sources, and would be taken for this one's."""
        built = Path(self.get_ext_fullpath(ext.name))
        built.unlink(missing_ok=True)
        if self._in_place:
            (Path(SOURCES).parent / built.name).unlink(missing_ok=True)

    def _build(self, ext: Extension) -> None:
        more = shlex.split(os.environ.get("SONAR_NATIVE_FLAGS", ""))
        kernels = [source for source in ext.sources if Path(source).name != "module.cpp"]
        ext.extra_objects = self.compiler.compile(
            kernels,
            output_dir=self.build_temp,
            depends=ext.depends,
            extra_postargs=[*FLAGS, *KERNEL_FLAGS, *more],
        )
        ext.sources = [source for source in ext.sources if source not in kernels]
        ext.depends = [*ext.depends, *kernels]
        ext.extra_compile_args = [*FLAGS, *more]
        ext.extra_link_args = ["-pthread", *more]
        super().build_extension(ext)


def _why_not(compiler: str) -> str | None:
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"it is written for x86-64 processors, and this is {platform.machine()}"
    if compiler != "unix":
        return f"it is written for GCC and Clang, and this is {compiler}"
    return None


setup(
    ext_modules=[
        Extension(
            "sonar.syft.engines._native",
            sources=sorted(path.as_posix() for path in Path(SOURCES).glob("*.cpp")),
            depends=sorted(path.as_posix() for path in Path(SOURCES).glob("*.h")),
            language="c++",
            py_limited_api=True,
            optional=True,
        )
    ],
    cmdclass={"build_ext": BuildNative},
    options={"bdist_wheel": {"py_limited_api": "cp311"}},
)
