"""The signatures of ``solve`` that editors show: one for each value of ``batched``."""

import ast

from tests.support.source import PACKAGE


def described(arguments):
    """Names, types and defaults of the arguments, without those of ``batched``."""
    named = zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    keywords = [
        (ast.dump(argument), default and ast.dump(default))
        for argument, default in named
        if argument.arg != "batched"
    ]
    positional = [ast.dump(node) for node in arguments.args + arguments.defaults]
    return positional, keywords


def test_the_overloads_have_the_arguments_of_solve():
    tree = ast.parse((PACKAGE / "integrate.py").read_text(encoding="utf-8"))
    functions = [
        node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "solve"
    ]
    single, batch, solve = functions
    assert ast.unparse(batch.returns) == "BatchSolution"
    assert described(single.args) == described(solve.args)
