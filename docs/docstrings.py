"""pynode's docstrings as Markdown: `name: what it is` at the start of a line becomes a list entry
(an extension of griffe)."""

import re

import griffe

ENTRY = re.compile(r"((?:[a-z*]\w*|[A-Z])(?:, [*]*\w+)*): (?=\S)")
CODE = re.compile(r"(`+)(.+?)\1")


def markdown(text: str) -> str:
    """The docstring with its entries as a list, names as code, and what Markdown would take for
    emphasis escaped."""
    lines, inside = [], False
    for line in text.splitlines():
        entry = ENTRY.match(line)
        if (entry or line.startswith("- ")) and not inside and lines and lines[-1]:
            lines.append("")  # a list begins after an empty line
        if entry:
            lines.append(f"- `{entry[1]}`: {escaped(line[entry.end() :])}")
            inside = True
        elif line.startswith("- "):
            lines.append(escaped(line))
            inside = True
        elif inside and line.strip() and not line.startswith("    "):
            lines.append("  " + escaped(line))
        else:
            inside = inside and bool(line.strip())
            lines.append(line if line.startswith("    ") and not inside else escaped(line))
    return "\n".join(lines)


def escaped(line: str) -> str:
    """`*`, `<`, brackets and double underscores outside of code stand for themselves."""
    kept, out, at = list(CODE.finditer(line)), [], 0
    for code in kept:
        out += [_plain(line[at : code.start()]), code[0]]
        at = code.end()
    return "".join([*out, _plain(line[at:])])


def _plain(text):
    return re.sub(
        r"[*\[\]]|__", lambda found: "".join("\\" + c for c in found[0]), text.replace("<", "&lt;")
    )


class Entries(griffe.Extension):
    """Rewrites every docstring once it is read."""

    def on_instance(self, *, obj, **_):
        if obj.docstring:
            obj.docstring.value = markdown(obj.docstring.value)
