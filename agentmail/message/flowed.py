"""format=flowed (RFC 3676): lines that the sender's program broke, put together again."""

from __future__ import annotations


def unflow(text: str, *, delete_space: bool = False) -> str:
    """Paragraphs as one line each; quote marks at the start of a line stay, as `"> "`."""
    out: list[str] = []
    paragraph: list[str] = []
    open_depth: int | None = None  # of the paragraph that the next line may continue
    for raw in text.split("\n"):
        depth = len(raw) - len(raw.lstrip(">")) if raw[:1] == ">" else 0
        line = raw[depth:].removeprefix(" ")  # 4.4: space stuffing
        signature = line == "-- "  # 4.3: never flows
        if open_depth is not None and (open_depth != depth or signature):
            out.append("".join(paragraph))
            paragraph = []
        if not paragraph and depth:
            paragraph.append(">" * depth + " ")
        if line[-1:] == " " and not signature:
            paragraph.append(line[:-1] if delete_space else line)
            open_depth = depth
        else:
            paragraph.append(line)
            out.append("".join(paragraph))
            paragraph = []
            open_depth = None
    if paragraph:
        out.append("".join(paragraph))
    return "\n".join(out)
