"""The mistakes that the variants of the test run have to notice; no part of tpio."""

from setuptools import Extension, setup

setup(name="planted", ext_modules=[Extension("planted", ["planted.c"])])
