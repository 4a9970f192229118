"""What is the user's mistake is told in one line, with exit status 2."""

import argparse


class Wrong(Exception):
    """The user's mistake."""


class OneLine(argparse.ArgumentParser):
    def error(self, message):
        raise Wrong(message)
