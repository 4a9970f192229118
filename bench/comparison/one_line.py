"""What is the user's mistake is told in one line, with exit status 2."""

import argparse
import importlib.util
import os
import shutil
from pathlib import Path


class Wrong(Exception):
    """The user's mistake."""


class OneLine(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {' '.join(message.split())}\n")

    def require_programs(self, *paths):
        for path in paths:
            if shutil.which(path) is None:
                self.error(f"{path}: there is no such program")

    def require_modules(self, *names, by):
        """Of what a script imports; `by` says how to get it."""
        for name in names:
            if importlib.util.find_spec(name) is None:
                self.error(f"{name}: not installed; {by}")


def number(least, most, multiple=1):
    """What an option takes that is a whole number."""
    def parse(text):
        if not text.isdecimal() or len(text) > 18 or not least <= int(text) <= most or int(text) % multiple:
            of = f" and a multiple of {multiple}" if multiple > 1 else ""
            raise argparse.ArgumentTypeError(f"{text!r}: must be a whole number from {least} to {most}{of}")
        return int(text)
    return parse


def folder(text):
    if not os.path.isdir(text):
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such folder")
    return Path(text)


def program(text):
    if shutil.which(text) is None:
        raise argparse.ArgumentTypeError(f"{text!r}: there is no such program")
    return text


def file(text):
    if not os.path.isfile(text):
        raise argparse.ArgumentTypeError(f"{str(text)!r}: there is no such file")
    return Path(text)
